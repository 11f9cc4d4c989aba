package channel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// reopen opens the ledgers of a directory at rest and its channels.
func (p peerDir) reopen() (*Registry, error) {
	p.t.Helper()
	return p.reopenUntil(p.t.Context())
}

func (p peerDir) reopenUntil(ctx context.Context) (*Registry, error) {
	p.t.Helper()
	ledgers, err := ledger.OpenProvider(ledger.Config{Dir: p.dir, Log: flog.Nop(), History: true})
	must(p.t, err)
	p.t.Cleanup(func() { ledgers.Close() })
	r := New(Config{Ledgers: ledgers, Pool: validation.NewPool(2), Log: p.log})
	return r, r.OpenAll(ctx)
}

// TestDamageStopsTheProcess: lost committed blocks are for the operator to
// repair; the peer must not start without the channel (LEDGER §2.3, §3.8).
func TestDamageStopsTheProcess(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	r := dir.start(0)
	must(t, r.Join(net.Genesis("ch")))
	must(t, r.Join(net.Genesis("ok")))
	must(t, r.stop())
	name := filepath.Join(dir.dir, "chains/chains/ch/blockfile_000000")
	info, err := os.Stat(name)
	must(t, err)
	must(t, os.Truncate(name, info.Size()-10))
	_, err = dir.reopen()
	if !ledger.IsFatal(err) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v", err)
	}
}

// TestOpeningIsInterrupted: the end of the context is the error, and no channel is
// taken for one that cannot be opened.
func TestOpeningIsInterrupted(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	r := dir.start(0)
	must(t, r.Join(net.Genesis("ch")))
	must(t, r.stop())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(os.ErrDeadlineExceeded)
	reg, err := dir.reopenUntil(ctx)
	if !errors.Is(err, os.ErrDeadlineExceeded) || ledger.IsFatal(err) || len(reg.List()) > 0 {
		t.Errorf("got %v", err)
	}
	must(t, reg.cfg.Ledgers.Close())
	if reg, err = dir.reopen(); err != nil || len(reg.List()) != 1 {
		t.Errorf("got %v", err)
	}
}

// TestChannelLeftOut: a channel that cannot be opened for another reason is left
// out; the others run.
func TestChannelLeftOut(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	r := dir.start(0)
	must(t, r.Join(net.Genesis("ch")))
	must(t, r.Join(net.Genesis("ok")))
	must(t, r.stop())
	// The state is ahead of the block store: the blocks are gone, index and all.
	must(t, os.RemoveAll(filepath.Join(dir.dir, "chains/index")))
	must(t, os.RemoveAll(filepath.Join(dir.dir, "chains/chains/ch")))
	reg, err := dir.reopen()
	must(t, err)
	if got := reg.List(); len(got) != 1 || got[0] != "ok" {
		t.Errorf("channels: %v", got)
	}
	if err := reg.Join(net.Genesis("ch")); err == nil || !strings.Contains(err.Error(), "LedgerID already exists") {
		t.Errorf("join again: %v", err)
	}
}
