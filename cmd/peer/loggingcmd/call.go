package loggingcmd

import (
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/protos/admin"
)

// levelCall is one of the two calls about the level of a logger.
type levelCall func(context.Context, *common.Envelope) (*admin.LogLevelResponse, error)

func withoutOptions(f func(context.Context, *common.Envelope, ...grpc.CallOption) (*admin.LogLevelResponse, error)) levelCall {
	return func(ctx context.Context, env *common.Envelope) (*admin.LogLevelResponse, error) { return f(ctx, env) }
}
