package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// fakeServer remembers the client roots that it was given.
type fakeServer struct{ sets []string }

func (*fakeServer) MutualTLS() bool { return true }

func (s *fakeServer) SetClientRoots(roots [][]byte) error {
	var all []string
	for _, r := range roots {
		all = append(all, string(r))
	}
	slices.Sort(all)
	s.sets = append(s.sets, strings.Join(all, " "))
	return nil
}

// TestClientRoots: the server knows the authorities of all channels, and those
// only, and hears of changes of the whole set only.
func TestClientRoots(t *testing.T) {
	t.Parallel()
	server := &fakeServer{}
	c := newClientRoots(server, [][]byte{[]byte("own")}, flog.Nop())
	want := []string{}
	for _, tc := range []struct{ channel, roots, all string }{
		{"sys", "a b", "a b own"},
		{"ch1", "a b", ""},
		{"ch2", "b c c", "a b c own"},
		{"ch2", "b c", ""},
		{"ch1", "d", "a b c d own"}, // another organization
		{"sys", "b", "b c d own"},   // nobody has a any more
		{"ch2", "", "b d own"},
		{"sys", "e", "d e own"},
	} {
		var roots [][]byte
		for r := range strings.FieldsSeq(tc.roots) {
			roots = append(roots, []byte(r))
		}
		c.set(tc.channel, roots)
		if tc.all != "" {
			want = append(want, tc.all)
		}
		if !slices.Equal(server.sets, want) {
			t.Errorf("%s has %s: got %q, want %q", tc.channel, tc.roots, server.sets, want)
		}
	}
}
