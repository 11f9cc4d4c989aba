package failpoint_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/failpoint"
)

func TestPoints(t *testing.T) {
	t.Parallel()
	var none *failpoint.Points
	if err := none.Hit("x"); err != nil {
		t.Errorf("nil: %v", err)
	}
	p := &failpoint.Points{}
	stop := errors.New("stop")
	p.Arm("b", func(hit int) error {
		if hit == 2 {
			return stop
		}
		return nil
	})
	var got []error
	for range 3 {
		got = append(got, p.Hit("b"))
	}
	if got[0] != nil || !errors.Is(got[1], stop) || got[2] != nil {
		t.Errorf("armed: %v", got)
	}
	if err := p.Hit("a"); err != nil {
		t.Errorf("not armed: %v", err)
	}
	if d := cmp.Diff([]failpoint.Seen{{Name: "a", Hits: 1}, {Name: "b", Hits: 3}}, p.Seen()); d != "" {
		t.Error(d)
	}
	p.Arm("a", func(int) error { return stop })
	p.Disarm("a")
	if err := p.Hit("a"); err != nil {
		t.Errorf("disarmed: %v", err)
	}
}
