package blockpull

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/heddle-ledger/heddle/internal/rpc"
)

// Dialer returns a Config.Dial that connects as base says, trusting the roots of
// the endpoint. A refused connection is tried again until the context ends.
func Dialer(base rpc.ClientConfig) func(context.Context, Endpoint) (*grpc.ClientConn, error) {
	return func(ctx context.Context, ep Endpoint) (*grpc.ClientConn, error) {
		c := base
		c.Roots = ep.Roots
		conn, err := rpc.NewClient(ep.Address, c)
		if err != nil {
			return nil, err
		}
		conn.Connect()
		for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
			if s == connectivity.Idle {
				conn.Connect()
			}
			if !conn.WaitForStateChange(ctx, s) {
				conn.Close()
				return nil, fmt.Errorf("connect to %s: %w", ep.Address, ctx.Err())
			}
		}
		return conn, nil
	}
}
