package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/protolator"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func TestInspect(t *testing.T) {
	dir := untar(t, ledgerRoot)
	before := content(t, dir)
	o, err := Inspect(t.Context(), openDir(t, dir), nil)
	must(t, err)
	eleven, three := uint64(11), uint64(3)
	want := []ChannelOverview{
		{
			ID: "vecch", Height: 11, LastHash: "9791c46af060640e0f150ff57ef0745e1a7198fcb40f485dda2999255ef38c96",
			PreviousHash: "8e304b4fb51f7ec5a4e95e196eb72983ebeaa24ae66f0e28542eea9974347b71",
			CommitHash:   "96c7166d6525df24a7f3db8af94ded7b3650c5da1edb3553a8233304e62068b2",
			LastTime:     "2020-09-13T12:26:40Z", LastConfig: 5, Files: 1, Bytes: 40727,
			Index: &eleven, State: &eleven, History: &eleven, Private: &eleven,
		},
		{
			ID: "vecch.two", Height: 3, LastHash: "6b9c8a692a60e9d977f704dff931fef932b8b777c828401288f61b1a3ce13739",
			PreviousHash: "72f4d5579adf0d32a28c038842933f76eb70cc6a12aa4d466bfd4bea963ce222",
			CommitHash:   "f33418a02c7bd4c115d92286bb2e982705ca12aa0559601b1534f0de88fe4604",
			LastTime:     "2020-09-13T12:26:40Z", Files: 1, Bytes: 16151,
			Index: &three, State: &three, History: &three, Private: &three,
		},
	}
	if d := cmp.Diff(want, o.Channels); d != "" || o.Kind != Peer {
		t.Error(d)
	}
	if d := cmp.Diff(before, content(t, dir)); d != "" {
		t.Error(d)
	}
	if _, err := Inspect(t.Context(), openDir(t, dir), []string{"nobody"}); !errors.Is(err, ErrNoChannel) {
		t.Error(err)
	}
}

// TestInspectWithoutIndex tells the heights by the block files alone.
func TestInspectWithoutIndex(t *testing.T) {
	dir := peerCopy(t)
	must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/chains/index")))
	must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/ledgerProvider")))
	o, err := Inspect(t.Context(), openDir(t, dir), nil)
	must(t, err)
	if c := o.Channels[0]; c.Height != chainLength || c.Index != nil || c.State == nil || c.Remark == "" {
		t.Error(show(o))
	}
}

// TestBlock shows blocks of peer and orderer, and takes what is shown back to
// what is stored.
func TestBlock(t *testing.T) {
	m := madeChain(t)
	for kind, dir := range map[Kind]string{Peer: peerCopy(t), Orderer: ordererCopy(t)} {
		for n := range uint64(chainLength) {
			d := openDir(t, dir)
			v, err := Block(t.Context(), d, channelID, n)
			must(t, err)
			if v.Number != n || v.BlockError != "" || len(v.Transactions) != len(m.blocks[n].Data.Data) {
				t.Errorf("%s: %s", kind, show(v))
			}
			typ, _ := protolator.Lookup("common.Block")
			back, err := typ.ReadJSON(bytes.NewReader(v.Block))
			must(t, err)
			raw, err := back.Marshal()
			must(t, err)
			if stored := protoutil.Marshal(m.stored(t, dir, n)); !bytes.Equal(raw, stored) && n > 0 && n != configBlock && n != deployBlock {
				t.Errorf("%s: block %d is not the same after encoding its JSON", kind, n)
			}
		}
	}
	d := openDir(t, peerCopy(t))
	v, err := Block(t.Context(), d, channelID, mixedBlock)
	must(t, err)
	codes := []string{}
	for _, tx := range v.Transactions {
		codes = append(codes, tx.Validation)
		if tx.Type != "ENDORSER_TRANSACTION" || tx.Chaincode != "cc" || tx.Creator.String() == "" || tx.Time == "" {
			t.Error(show(tx))
		}
	}
	if diff := cmp.Diff([]string{"DUPLICATE_TXID", "MVCC_READ_CONFLICT", "VALID"}, codes); diff != "" {
		t.Error(diff)
	}
	if len(v.Signers) != 1 || v.Signers[0].MSPID != "OrdererMSP" || v.Signers[0].Subject == "" || v.LastConfig != configBlock || len(v.CommitHash) != 64 {
		t.Error(show(v))
	}
	if _, err := Block(t.Context(), d, channelID, chainLength); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if v, err := NewestBlock(t.Context(), d, channelID); err != nil || v.Number != chainLength-1 {
		t.Error(show(v), err)
	}
	if _, err := Block(t.Context(), d, "nobody", 0); !errors.Is(err, ErrNoChannel) {
		t.Error(err)
	}
}

func TestTransaction(t *testing.T) {
	m := madeChain(t)
	b := protoutil.ParseBlock(m.blocks[privateBlock])
	id := b.Tx(0).ID()
	for kind, dir := range map[Kind]string{Peer: peerCopy(t), Orderer: ordererCopy(t)} {
		v, err := Transaction(t.Context(), openDir(t, dir), channelID, id, nil)
		must(t, err)
		var envelope map[string]any
		must(t, json.Unmarshal(v.Envelope, &envelope))
		if v.Block != privateBlock || v.Index != 0 || v.ID != id || (v.Validation == "VALID") != (kind == Peer) || envelope["payload"] == nil {
			t.Error(kind, show(v))
		}
		if _, err := Transaction(t.Context(), openDir(t, dir), channelID, "nothing", nil); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	dir := peerCopy(t) // without an index it is searched for
	must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/chains/index")))
	var out bytes.Buffer
	v, err := Transaction(t.Context(), openDir(t, dir), channelID, id, &out)
	if err != nil || v.Block != privateBlock || out.Len() == 0 {
		t.Error(show(v), err)
	}
}

func TestKey(t *testing.T) {
	d := openDir(t, peerCopy(t))
	v, err := Key(d, channelID, "cc", "m")
	must(t, err)
	if !v.Found || v.Text != "later" || *v.Version != (KeyVersion{Block: mixedBlock + 3}) || len(v.Metadata) != 1 || len(v.History) != 2 || v.History[0].Text != "value" {
		t.Error(show(v))
	}
	if v, err = Key(d, channelID, "cc", "a"); err != nil || v.Text != "13" || len(v.History) != 21 || !v.History[3].Delete && !v.History[5].Delete {
		t.Error(show(v), err)
	}
	if v, err = Key(d, channelID, "cc$$pstays", "p3"); err != nil || v.Text != "secret p3" {
		t.Error(show(v), err)
	}
	if _, err = Key(d, channelID, "cc", "absent"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err = Key(openDir(t, ordererCopy(t)), channelID, "cc", "a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestParseKey(t *testing.T) {
	for text, want := range map[string][2]string{
		"cc/a":                   {"cc", "a"},
		"cc/a/b":                 {"cc", "a/b"},
		`cc/\x00type\x00one\x00`: {"cc", "\x00type\x00one\x00"},
		`cc/\x00a"b`:             {"cc", "\x00a\"b"},
		"cc/":                    {"cc", ""},
		`cc$$pcoll/key`:          {"cc$$pcoll", "key"},
	} {
		ns, key, err := ParseKey(text)
		if err != nil || ns != want[0] || key != want[1] {
			t.Errorf("%s: %q %q %v", text, ns, key, err)
		}
	}
	for _, bad := range []string{"cc", "/a", `cc/\q`} {
		if _, _, err := ParseKey(bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
