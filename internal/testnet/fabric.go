package testnet

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// Fabric connects nodes through memory. Like TCP it refuses connections to
// addresses where nobody listens.
type Fabric struct {
	mu        sync.Mutex // guards the fields below
	listeners map[string]*bufconn.Listener
	dials     []Dial
}

// Dial is an attempt to connect.
type Dial struct {
	Address string
	At      time.Time
	Refused bool
}

const pipeBytes = 1 << 20

// Listen opens an address.
func (f *Fabric) Listen(address string) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: addr(address), Err: syscall.EADDRINUSE}
	}
	if f.listeners == nil {
		f.listeners = map[string]*bufconn.Listener{}
	}
	l := bufconn.Listen(pipeBytes)
	f.listeners[address] = l
	return &listener{Listener: l, fabric: f, address: address}, nil
}

// Dial connects to an address.
func (f *Fabric) Dial(ctx context.Context, address string) (net.Conn, error) {
	f.mu.Lock()
	l := f.listeners[address]
	f.dials = append(f.dials, Dial{Address: address, At: time.Now(), Refused: l == nil})
	f.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: addr(address), Err: syscall.ECONNREFUSED}
	}
	return l.DialContext(ctx)
}

// Dials are the attempts to connect to an address so far.
func (f *Fabric) Dials(address string) []Dial {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Dial
	for _, d := range f.dials {
		if d.Address == address {
			out = append(out, d)
		}
	}
	return out
}

// listener gives its address back when it is closed.
type listener struct {
	*bufconn.Listener
	fabric  *Fabric
	address string
}

func (l *listener) Addr() net.Addr { return addr(l.address) }

func (l *listener) Close() error {
	l.fabric.mu.Lock()
	defer l.fabric.mu.Unlock()
	if l.fabric.listeners[l.address] == l.Listener {
		delete(l.fabric.listeners, l.address)
	}
	return l.Listener.Close()
}

type addr string

func (addr) Network() string  { return "mem" }
func (a addr) String() string { return string(a) }
