package validation

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/msp"
)

func noOtherChannel(string) (msp.Deserializer, bool) { return nil, false }

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return raw
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return raw
}

func readBlock(t testing.TB, name string) *common.Block {
	t.Helper()
	b := &common.Block{}
	if err := proto.Unmarshal(readFile(t, name), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func bundleOf(t testing.TB, genesis *common.Block) *chanconfig.Bundle {
	t.Helper()
	b, err := chanconfig.BundleFromBlock(genesis, chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seeded is the ledger on which the recorded blocks were judged.
func seeded(t testing.TB) (*chanconfig.Bundle, *testchain.Ledger) {
	t.Helper()
	genesis := readBlock(t, "standalone.block")
	l, err := testchain.NewLedger(genesis, readBlock(t, "seed_block1.block"), readBlock(t, "seed_block2.block"))
	if err != nil {
		t.Fatal(err)
	}
	return bundleOf(t, genesis), l
}

type recordedBlock struct {
	Name   string
	Number json.Number `json:"block_number"`
	Txs    []struct {
		Name     string
		Envelope []byte `json:"envelope_b64"`
	}
	Codes  map[string][]string `json:"codes_by_application_capability"`
	Errors map[string]string   `json:"block_error_by_application_capability"`
}

func (r *recordedBlock) block() *common.Block {
	b := protoutil.NewBlock(3, nil)
	for _, tx := range r.Txs {
		b.Data.Data = append(b.Data.Data, tx.Envelope)
	}
	return b
}

func recordedBlocks(t testing.TB) []recordedBlock {
	t.Helper()
	var file struct{ Blocks []recordedBlock }
	if err := json.Unmarshal(readFile(t, "tx_validation.json.gz"), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Blocks) < 100 {
		t.Fatalf("only %d recorded blocks", len(file.Blocks))
	}
	return file.Blocks
}

func newValidator(t testing.TB, channel string, pool int) *Validator {
	t.Helper()
	v, err := New(Config{ChannelID: channel, Pool: NewPool(pool)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func judge(t testing.TB, v *Validator, b *common.Block, view View) (*Scan, error) {
	t.Helper()
	s, err := v.Scan(t.Context(), protoutil.ParseBlock(b))
	if err != nil {
		t.Fatal(err)
	}
	return s, v.Judge(t.Context(), s, view)
}

func codes(b *common.Block) []string {
	var out []string
	for _, f := range protoutil.ParseBlock(b).Flags() {
		out = append(out, fmt.Sprintf("%d %s", f, peer.TxValidationCode(f)))
	}
	return out
}

// TestRecordedBlocks judges every recorded block under every application
// capability, with the caches of the blocks before it warm.
func TestRecordedBlocks(t *testing.T) {
	t.Parallel()
	bundle, ledger := seeded(t)
	blocks := recordedBlocks(t)
	for _, capability := range []string{"none", "V1_1", "V1_2", "V1_3", "V1_4_2"} {
		for _, pool := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s/%d", capability, pool), func(t *testing.T) {
				t.Parallel()
				config := ConfigOf(bundle, noOtherChannel)
				set := &common.Capabilities{Capabilities: map[string]*common.Capability{capability: {}}}
				config.Rules = RulesOf(chanconfig.NewApplicationCapabilities(set))
				v := newValidator(t, "standalone", pool)
				for _, r := range blocks {
					want, wantErr := r.Codes[capability], r.Errors[capability]
					if all, ok := r.Codes["all"]; ok {
						want = all
					}
					if all, ok := r.Errors["all"]; ok {
						wantErr = all
					}
					b := r.block()
					_, err := judge(t, v, b, View{Config: config, State: ledger, Index: ledger})
					checkRecorded(t, r.Name, b, err, want, wantErr)
				}
			})
		}
	}
}

func checkRecorded(t *testing.T, name string, b *common.Block, err error, want []string, wantErr string) {
	t.Helper()
	if wantErr != "" {
		var f *FatalError
		if err == nil || err.Error() != wantErr || !errors.As(err, &f) || f.Execution != strings.HasPrefix(wantErr, "plugin") {
			t.Errorf("%s: got error %v, want %s", name, err, wantErr)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if d := cmp.Diff(want, codes(b)); d != "" {
		t.Errorf("%s: %s", name, d)
	}
}

// ch1Blocks is the chain of a real channel.
func ch1Blocks(t testing.TB) []*common.Block {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(readFile(t, "ch1_blocks.tar.gz")))
	byName := map[string]*common.Block{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".block") {
			b := &common.Block{}
			if err := proto.Unmarshal(raw, b); err != nil {
				t.Fatal(err)
			}
			byName[filepath.Base(h.Name)] = b
		}
	}
	var blocks []*common.Block
	for i := range len(byName) {
		blocks = append(blocks, byName[fmt.Sprintf("%02d.block", i)])
	}
	return blocks
}

// TestRecordedChain replays a real channel with deployments and upgrades: codes
// and, for refused transactions of lscc, the recorded reasons.
func TestRecordedChain(t *testing.T) {
	t.Parallel()
	var recorded []struct {
		Block       uint64
		Code, Error string
	}
	if err := json.Unmarshal(readFile(t, "ch1_lscc.json"), &recorded); err != nil {
		t.Fatal(err)
	}
	blocks := ch1Blocks(t)
	ledger, err := testchain.NewLedger(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	config := ConfigOf(bundleOf(t, blocks[0]), noOtherChannel)
	v := newValidator(t, "ch1", 2)
	for _, b := range blocks[1:] {
		s, err := judge(t, v, b, View{Config: config, State: ledger, Index: ledger})
		if err != nil {
			t.Fatalf("block %d: %v", b.Header.Number, err)
		}
		want, wantErr := "0 VALID", ""
		for _, r := range recorded {
			if r.Block == b.Header.Number && r.Code != "VALID" {
				want, wantErr = "10 "+r.Code, r.Error
			}
		}
		if d := cmp.Diff([]string{want}, codes(b)); d != "" {
			t.Errorf("block %d: %s, %v", b.Header.Number, d, s.Reason(0))
		}
		if wantErr != "" && (s.Reason(0) == nil || s.Reason(0).Error() != wantErr) {
			t.Errorf("block %d: got reason %v, want %s", b.Header.Number, s.Reason(0), wantErr)
		}
		if err := ledger.Commit(s.Block()); err != nil {
			t.Fatal(err)
		}
	}
}
