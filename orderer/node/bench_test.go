package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// largeBatches is the recorded genesis block with 500 messages per block.
func largeBatches(b *testing.B) string {
	b.Helper()
	block := &common.Block{}
	if err := proto.Unmarshal(mustRead(b, "testdata/solo_genesis.block"), block); err != nil {
		b.Fatal(err)
	}
	env, err := protoutil.FirstEnvelope(block)
	if err != nil {
		b.Fatal(err)
	}
	_, config, err := chanconfig.ConfigOfEnvelope(env)
	if err != nil {
		b.Fatal(err)
	}
	config.Config.ChannelGroup.Groups["Orderer"].Values["BatchSize"].Value = protoutil.Marshal(&orderer.BatchSize{
		MaxMessageCount: 500, AbsoluteMaxBytes: 10 << 20, PreferredMaxBytes: 4 << 20,
	})
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		b.Fatal(err)
	}
	payload.Data = protoutil.Marshal(config)
	env.Payload = protoutil.Marshal(payload)
	block.Data.Data[0] = protoutil.Marshal(env)
	block.Header.DataHash = protoutil.DataHash(block.Data.Data)
	path := b.TempDir() + "/genesis.block"
	if err := os.WriteFile(path, protoutil.Marshal(block), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkOrder is the way of a message of 3 KB through the daemon: gRPC on the
// loopback device, one signature verification, a block file with one sync per 500
// messages, and Deliver. Client and orderer share the process. To be read beside
// BenchmarkVerify of the same run.
func BenchmarkOrder(b *testing.B) {
	cfg := settings(b.TempDir())
	cfg.General.TLS.Enabled = false
	cfg.General.GenesisFile = largeBatches(b)
	n, stop := startNode(b, cfg, io.Discard)
	defer stop()
	conn, err := grpc.NewClient(n.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if r := broadcastAll(b, conn, loadRecording(b).envelope(b, 26)); r[0].Status != common.Status_SUCCESS {
		b.Fatal(r)
	}
	user := loadSigner(b, "testdata/user1-msp", "Org1MSP")
	for n.parts.registrar.Count() < 2 {
		runtime.Gosched() // the channel is being created
	}
	envs := make([]*common.Envelope, b.N)
	for i := range envs {
		envs[i] = sign(b, user, envelopeSpec{channel: "ch1", kind: common.HeaderType_ENDORSER_TRANSACTION, data: make([]byte, 2000)})
	}
	delivered := make(chan error, 1)
	go func() {
		delivered <- countDelivered(b.Context(), conn, b.N, sign(b, user, envelopeSpec{
			channel: "ch1", kind: common.HeaderType_DELIVER_SEEK_INFO, time: timestamppb.Now(), data: seekTo(1 << 62),
		}))
	}()
	b.SetBytes(int64(proto.Size(envs[0])))
	b.ResetTimer()
	s, err := orderer.NewAtomicBroadcastClient(conn).Broadcast(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for _, env := range envs {
			if s.Send(env) != nil {
				return // Recv has the reason
			}
		}
	}()
	for range envs {
		if r, err := s.Recv(); err != nil || r.Status != common.Status_SUCCESS {
			b.Fatal(r, err)
		}
	}
	if err := <-delivered; err != nil {
		b.Fatal(err)
	}
}

// countDelivered reads blocks after the genesis block until they hold n messages.
func countDelivered(ctx context.Context, conn *grpc.ClientConn, n int, seek *common.Envelope) error {
	s, err := orderer.NewAtomicBroadcastClient(conn).Deliver(ctx)
	if err != nil {
		return err
	}
	if err := s.Send(seek); err != nil {
		return err
	}
	for n > 0 {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if r.GetBlock().GetHeader().GetNumber() > 0 {
			n -= len(r.GetBlock().Data.Data)
		}
	}
	return s.CloseSend()
}

// BenchmarkVerify is the yardstick: one P-256 verification.
func BenchmarkVerify(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
			b.Fatal("bad signature")
		}
	}
}
