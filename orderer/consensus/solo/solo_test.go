package solo_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/consensustest"
	"github.com/heddle-ledger/heddle/orderer/consensus/solo"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	consensustest.Run(t, func(*testing.T) consensus.Consenter { return solo.New(flog.Nop()) })
}

// TestExiting checks the text for clients of a stopped chain.
func TestExiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chain, err := solo.New(flog.Nop()).NewChain(consensustest.NewSupport(1, time.Second), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := chain.Run(ctx); err != nil {
			t.Fatal(err)
		}
		err = chain.Configure(t.Context(), consensustest.NewMessage("c", common.HeaderType_CONFIG), 0)
		if !errors.Is(err, consensus.ErrExiting) || err.Error() != "Exiting" {
			t.Errorf("Configure: %v", err)
		}
	})
}

// TestStopWritesPending: what clients were told to be accepted is in a block when
// the orderer is stopped in good order.
func TestStopWritesPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		support := consensustest.NewSupport(10, time.Hour)
		chain, err := solo.New(flog.Nop()).NewChain(support, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- chain.Run(ctx) }()
		for _, name := range []string{"1", "2"} {
			if err := chain.Order(ctx, consensustest.NewMessage(name, common.HeaderType_MESSAGE), 0); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := support.Blocks(); len(got) != 1 || !slices.Equal(got[0].Messages, []string{"1", "2"}) {
			t.Errorf("blocks %v", got)
		}
	})
}
