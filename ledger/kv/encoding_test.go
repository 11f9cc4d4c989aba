package kv

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	must(t, err)
	return n
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/encodings.json")
	must(t, err)
	var golden struct {
		Heights []struct{ Block, Tx, Bytes string }
		Uint64  []struct {
			N   string
			OPV string `json:"order_preserving"`
			RPV string `json:"reverse_order"`
		}
	}
	must(t, json.Unmarshal(raw, &golden))
	for _, tc := range golden.Uint64 {
		n := number(t, tc.N)
		if got := hex.EncodeToString(AppendOPV(nil, n)); got != tc.OPV {
			t.Errorf("OPV(%d) = %s, want %s", n, got, tc.OPV)
		}
		if got := hex.EncodeToString(AppendRPV(nil, n)); got != tc.RPV {
			t.Errorf("RPV(%d) = %s, want %s", n, got, tc.RPV)
		}
		if back, rest, err := ReadOPV(append(AppendOPV(nil, n), 7)); err != nil || back != n || len(rest) != 1 {
			t.Errorf("OPV(%d) read back as %d, %v", n, back, err)
		}
		if back, rest, err := ReadRPV(append(AppendRPV(nil, n), 7)); err != nil || back != n || len(rest) != 1 {
			t.Errorf("RPV(%d) read back as %d, %v", n, back, err)
		}
	}
	for _, tc := range golden.Heights {
		h := Height{number(t, tc.Block), number(t, tc.Tx)}
		if got := hex.EncodeToString(AppendHeight(nil, h)); got != tc.Bytes {
			t.Errorf("height %v = %s, want %s", h, got, tc.Bytes)
		}
		if back, rest, err := ReadHeight(AppendHeight(nil, h)); err != nil || back != h || len(rest) != 0 {
			t.Errorf("height %v read back as %v, %v", h, back, err)
		}
	}
}

func TestEncodingErrors(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":         "number of consumed bytes from DecodeVarint is invalid, expected 1, but got 0",
		"8001":     "number of consumed bytes from DecodeVarint is invalid, expected 1, but got 2",
		"09":       "decoded size from DecodeVarint is invalid, expected <=8, but got 9",
		"03ffff":   "decoded size (3) from DecodeVarint is more than available bytes (2)",
		"80808000": "number of consumed bytes from DecodeVarint is invalid, expected 1, but got 4",
	} {
		b, err := hex.DecodeString(raw)
		must(t, err)
		if _, _, err := ReadOPV(b); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
		if _, _, err := ReadHeight(b); err == nil {
			t.Errorf("height %s accepted", raw)
		}
	}
	for _, b := range [][]byte{nil, {9}, {7}, {0, 1, 2}} {
		if _, _, err := ReadRPV(b); err == nil {
			t.Errorf("%x accepted", b)
		}
	}
	if _, _, err := ReadHeight([]byte{0, 9}); err == nil {
		t.Error("height with bad second part accepted")
	}
}

func FuzzNumbers(f *testing.F) {
	f.Add(uint64(0), uint64(1))
	f.Add(uint64(255), uint64(256))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		if c := bytes.Compare(AppendOPV(nil, a), AppendOPV(nil, b)); (c < 0) != (a < b) {
			t.Errorf("OPV order of %d and %d", a, b)
		}
		if c := bytes.Compare(AppendRPV(nil, a), AppendRPV(nil, b)); (c > 0) != (a < b) {
			t.Errorf("RPV order of %d and %d", a, b)
		}
		ha, hb := Height{a, b}, Height{b, a}
		if c := bytes.Compare(AppendHeight(nil, ha), AppendHeight(nil, hb)); c != cmp.Or(cmp.Compare(ha.Block, hb.Block), cmp.Compare(ha.Tx, hb.Tx)) {
			t.Errorf("order of heights %v and %v: %d", ha, hb, c)
		}
	})
}

func FuzzReadNumbers(f *testing.F) {
	f.Add([]byte{1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, rest, err := ReadOPV(b); err == nil && n != 0 && b[1] != 0 && !bytes.Equal(append(AppendOPV(nil, n), rest...), b) {
			t.Errorf("%x: %d", b, n)
		}
		if h, rest, err := ReadHeight(b); err == nil && len(rest) > len(b) {
			t.Errorf("%x: %v", b, h)
		}
		if _, rest, err := ReadRPV(b); err == nil && len(rest) > len(b) {
			t.Errorf("%x", b)
		}
	})
}
