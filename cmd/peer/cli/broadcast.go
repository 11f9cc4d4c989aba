package cli

import (
	"context"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
)

// Broadcast sends one envelope to the ordering service and waits for its
// answer.
func Broadcast(ctx context.Context, conn *Conn, env *common.Envelope) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := orderer.NewAtomicBroadcastClient(conn).Broadcast(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(env); err != nil {
		// The reason is in the answer.
		if _, recvErr := stream.Recv(); recvErr != nil {
			err = recvErr
		}
		return fmt.Errorf("could not send: %w", err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	resp, err := stream.Recv()
	if err != nil {
		return err
	}
	if resp.Status != common.Status_SUCCESS {
		return fmt.Errorf("got unexpected status: %s -- %s", resp.Status, resp.Info)
	}
	return nil
}
