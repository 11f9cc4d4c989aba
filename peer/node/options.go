package node

import (
	"context"
	"net"

	"github.com/heddle-ledger/heddle/internal/rpc"
)

// Option changes how a node meets the world; test networks use them.
type Option func(*Node)

// WithListen opens all listeners of the node, in place of TCP.
func WithListen(listen func(address string) (net.Listener, error)) Option {
	return func(n *Node) { n.listen = listen }
}

// WithDialer makes the connections to the ordering service, in place of TCP.
func WithDialer(dial func(ctx context.Context, address string) (net.Conn, error)) Option {
	return func(n *Node) { n.dial = dial }
}

func (n *Node) apply(opts []Option) {
	n.listen = rpc.Listen
	for _, o := range opts {
		o(n)
	}
}
