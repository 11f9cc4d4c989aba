package node

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/orderer/broadcast"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
	"github.com/heddle-ledger/heddle/orderer/multichannel"
)

// service is orderer.AtomicBroadcast.
type service struct {
	orderer.UnimplementedAtomicBroadcastServer
	log                          *flog.Logger
	broadcast                    *broadcast.Handler
	deliver                      *deliver.Handler
	registrar                    *multichannel.Registrar
	broadcastTrace, deliverTrace tracer
}

// Broadcast implements orderer.AtomicBroadcastServer.
func (s *service) Broadcast(stream orderer.AtomicBroadcast_BroadcastServer) error {
	remote := rpc.PeerAddress(stream.Context())
	s.log.Debugf("Starting new Broadcast handler")
	return s.broadcast.Serve(stream.Context(), &broadcast.Stream{
		Recv: s.broadcastTrace.wrap(stream.Recv), Send: stream.Send, RemoteAddr: remote,
	})
}

// Deliver implements orderer.AtomicBroadcastServer.
func (s *service) Deliver(stream orderer.AtomicBroadcast_DeliverServer) error {
	ctx := stream.Context()
	s.log.Debugf("Starting new Deliver handler")
	return s.deliver.Serve(ctx, &deliver.Stream{
		Recv:       s.deliverTrace.wrap(stream.Recv),
		Responder:  responder{stream},
		Access:     s.checkReader,
		RemoteAddr: rpc.PeerAddress(ctx),
		CertHash:   rpc.PeerCertHash(ctx),
	})
}

func (s *service) checkReader(env *common.Envelope, channelID string) error {
	c, ok := s.registrar.Channel(channelID)
	if !ok {
		return msgproc.ErrChannelDoesNotExist
	}
	return c.CheckReader(env)
}

// responder sends what Deliver decides.
type responder struct {
	stream orderer.AtomicBroadcast_DeliverServer
}

func (r responder) SendStatus(s common.Status) error {
	return r.stream.Send(&orderer.DeliverResponse{Type: &orderer.DeliverResponse_Status{Status: s}})
}

func (r responder) SendBlock(b *deliver.Block, _ string, _ *common.Envelope) error {
	return r.stream.SendMsg(rpc.Encoded(b.EncodedResponse()))
}

func (r responder) Filtered() bool { return false }

// tracer writes every request into a file of its own (Debug.BroadcastTraceDir,
// Debug.DeliverTraceDir). The zero value does nothing.
type tracer struct {
	dir, suffix string
	log         *flog.Logger
}

func newTracer(dir, suffix string, log *flog.Logger) tracer {
	return tracer{dir: dir, suffix: suffix, log: log}
}

func (t tracer) wrap(recv func() (*common.Envelope, error)) func() (*common.Envelope, error) {
	if t.dir == "" {
		return recv
	}
	return func() (*common.Envelope, error) {
		env, err := recv()
		if err == nil {
			t.trace(env)
		}
		return env, err
	}
}

func (t tracer) trace(env *common.Envelope) {
	path := filepath.Join(t.dir, fmt.Sprintf("%d_%p.%s", time.Now().UnixNano(), env, t.suffix))
	raw, err := proto.Marshal(env)
	if err == nil {
		err = os.WriteFile(path, raw, 0o660)
	}
	if err != nil {
		t.log.Debugf("Error writing trace: %s", err)
	}
}
