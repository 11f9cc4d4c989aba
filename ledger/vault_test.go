package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// vault is all that a directory holds, by place: the entries of the databases, in
// a form in which two that mean the same are the same, and the files of the block
// stores.
type vault map[string]string

// vaultKey names an entry of a database.
func vaultKey(db, key string) string { return db + "|" + key }

// readVault reads a directory that may be in use: what its process would leave if
// it were killed now. Entries that a process has finished with, and forgets at
// its next start at the latest, are left out.
func readVault(t testing.TB, dir *vfs.Mem) vault {
	t.Helper()
	fsys := dir.Crash(vfs.KeepUnsynced, 0)
	v := vault{}
	for _, db := range databases {
		readDatabase(t, fsys, path.Join(testDir, db), func(key, value []byte) {
			v[vaultKey(db, string(key))] = meaning(t, db, string(key), value)
		})
	}
	readDatabase(t, fsys, transientDir, func(key, value []byte) { v[vaultKey("transientStore", withoutUUID(t, key))] = string(value) })
	chains := path.Join(testDir, "chains/chains")
	for _, channel := range names(t, fsys, chains) {
		for _, file := range names(t, fsys, path.Join(chains, channel)) {
			raw, err := vfs.ReadFile(fsys, path.Join(chains, channel, file))
			must(t, err)
			v["file|"+channel+"/"+file] = string(raw)
		}
		v.forgetExpired(t, channel)
	}
	return v
}

func names(t testing.TB, fsys vfs.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func readDatabase(t testing.TB, fsys vfs.FS, dir string, visit func(key, value []byte)) {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: dir, FS: fsys, ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	defer db.Close()
	it := db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		visit(it.Key(), it.Value())
	}
	must(t, it.Err())
}

// withoutUUID replaces the random part of a transient key by its place among
// those that are alike, which is always the first in a story.
func withoutUUID(t testing.TB, key []byte) string {
	t.Helper()
	channel, rest, _ := strings.Cut(string(key), "\x00")
	i := strings.Index(rest, "-4") // version 4, after the first two groups
	for i >= 0 && (i < 13 || len(rest) < i+23 || rest[i+5] != '-' || rest[i-5] != '-') {
		next := strings.Index(rest[i+1:], "-4")
		if next < 0 {
			t.Fatalf("no UUID in %q", key)
		}
		i += 1 + next
	}
	return channel + "\x00" + rest[:i-13] + "*" + rest[i+23:]
}

// meaning is a value without what has none: the order of maps, and of lists
// that are sets.
func meaning(t testing.TB, db, key string, raw []byte) string {
	t.Helper()
	name, logical, _ := strings.Cut(key, "\x00")
	decode := func(m proto.Message) string {
		must(t, proto.Unmarshal(raw, m))
		return string(protoutil.Marshal(m))
	}
	switch {
	case db == "stateLeveldb" && logical == "\x00"+mvcc.ConfigKey:
		v := &ledgerstore.VersionedValue{}
		must(t, proto.Unmarshal(raw[1:], v))
		cfg := &common.Config{}
		must(t, proto.Unmarshal(v.Value, cfg))
		v.Value = protoutil.Marshal(cfg)
		return string(protoutil.Marshal(v))
	case db == "bookkeeper" && strings.HasSuffix(name, "/0"):
		v := &ledgerstore.PvtdataKeys{}
		must(t, proto.Unmarshal(raw, v))
		return scheduleMeaning(v)
	case db == "pvtdataStore" && strings.HasPrefix(logical, "\x03"):
		return decode(&ledgerstore.ExpiryData{})
	case db == "pvtdataStore" && strings.HasPrefix(logical, "\x06"):
		return decode(&ledgerstore.CollElgInfo{})
	}
	return string(raw)
}

// scheduleMeaning lists the hashes of a schedule entry with their keys; of several
// for one hash the last counts (LEDGER §9.1).
func scheduleMeaning(v *ledgerstore.PvtdataKeys) string {
	last := map[string]string{}
	for ns, colls := range v.GetMap() {
		for coll, keys := range colls.GetMap() {
			for _, k := range keys.GetList() {
				last[fmt.Sprintf("%s %s %x", ns, coll, k.Hash)] = k.Key
			}
		}
	}
	out := make([]string, 0, len(last))
	for hash, key := range last {
		out = append(out, hash+" "+key)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// forgetExpired does what purging would: whether it has been done is a matter of
// how often the process was started.
func (v vault) forgetExpired(t testing.TB, channel string) {
	t.Helper()
	last, ok := v["chains/index|"+channel+"\x00indexCheckpointKey"]
	if !ok {
		return
	}
	height, n := binary.Uvarint([]byte(last))
	if n <= 0 {
		t.Fatalf("last indexed block %x", last)
	}
	pvt := "pvtdataStore|" + channel + "\x00"
	schedule := "bookkeeper|" + channel + "/0\x00" + "1"
	for k := range v {
		switch {
		case strings.HasPrefix(k, schedule):
			if h, _, err := kv.ReadHeight([]byte(k[len(schedule):])); err != nil || h.Block <= height {
				delete(v, k)
			}
		case strings.HasPrefix(k, pvt+"\x03"):
			h, _, err := kv.ReadHeight([]byte(k[len(pvt)+1:]))
			must(t, err)
			if h.Block > height {
				continue
			}
			data := &ledgerstore.ExpiryData{}
			must(t, proto.Unmarshal([]byte(v[k]), data))
			v.purge(pvt, h.Tx, data)
			delete(v, k)
		}
	}
}

func (v vault) purge(pvt string, committing uint64, data *ledgerstore.ExpiryData) {
	for ns, colls := range data.GetMap() {
		for coll, txs := range colls.GetMap() {
			for _, tx := range txs.GetList() {
				delete(v, pvt+string(kv.AppendHeight([]byte{2}, kv.Height{Block: committing, Tx: tx}))+ns+"\x00"+coll)
			}
		}
		for coll := range colls.GetMissingDataMap() {
			delete(v, pvt+string(kv.AppendRPV([]byte{4}, committing))+ns+"\x00"+coll)
			delete(v, pvt+string(kv.AppendRPV([]byte("\x05"+ns+"\x00"+coll+"\x00"), committing)))
		}
	}
}

// differences lists where a directory is not what it should be. That transient
// data which were purged came back is none: such purges are not synced. Nor is
// how far the private store covers expected blocks: a batch that a crash completes
// lets it go further.
func (v vault) differences(got vault) []string {
	var out []string
	for k, w := range v {
		g, ok := got[k]
		if !ok {
			out = append(out, fmt.Sprintf("%q is missing", k))
		} else if g != w && !(strings.HasPrefix(k, "pvtdataStore|") && strings.HasSuffix(k, "\x00\x01") && g > w) {
			out = append(out, fmt.Sprintf("%q is %s not %s", k, short(g, w), short(w, g)))
		}
	}
	for k := range got {
		if _, ok := v[k]; !ok && !strings.HasPrefix(k, "transientStore|") {
			out = append(out, fmt.Sprintf("%q should not be there", k))
		}
	}
	slices.Sort(out)
	return out
}

// short shows the part of a value in which it differs from another.
func short(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("(%d bytes, from %d) %q", len(a), i, bytes.TrimSpace([]byte(a[i:min(len(a), i+60)])))
}

func checkVault(t testing.TB, what string, want, got vault) bool {
	t.Helper()
	diff := want.differences(got)
	if len(diff) == 0 {
		return true
	}
	if len(diff) > 12 {
		diff = append(diff[:12], fmt.Sprintf("and %d more", len(diff)-12))
	}
	t.Errorf("%s:\n  %s", what, strings.Join(diff, "\n  "))
	return false
}
