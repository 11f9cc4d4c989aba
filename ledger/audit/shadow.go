package audit

import "context"

func (v *verifier) compareRebuilt(ctx context.Context) error { return nil }
