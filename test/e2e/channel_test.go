package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestChannelTranscript replays `peer channel`, `peer node status`, `peer
// logging` and `peer version` against a network like that of the recording and
// compares stdout, stderr and exit codes.
func TestChannelTranscript(t *testing.T) {
	n := newNetwork(t, options{})
	n.channelTx("OneOrg", "onech")
	n.anchorTx("mychannel", "Org1MSP", "anchor1.tx")
	copyFile(t, n.path("anchor1.tx"), n.path("a1.tx"))
	n.startOrderer()
	n.startPeer(0)
	nobody := freePorts(t, 1)[0]
	norm := normalizer{places: strings.NewReplacer(
		"45050", port(n.orderer), "45051", port(n.peers[0]), "45049", port(nobody),
		"$ORDERERCA", n.ordererCA(), "$CFG", n.cfg, "$CRYPTO", n.path("crypto"),
		"$PEERORGS", n.path("crypto/peerOrganizations"), "$DIR", n.dir,
	)}
	base := n.admin(0).env
	for i, s := range readTranscript(t, "testdata/cli_channel_node_logging.txt") {
		t.Run(strconv.Itoa(i)+" "+s.line(), func(t *testing.T) {
			for j := range s.env {
				s.env[j] = norm.places.Replace(s.env[j])
			}
			for j := range s.args {
				s.args[j] = norm.places.Replace(s.args[j])
			}
			run := func() result { return execute(t, n.dir, s.apply(base), s.args[0], s.args[1:]...) }
			r := run()
			if slices.Contains(s.args, "getinfo") && s.rc == "0" { // the block of an update may be on its way
				eventually(t, "the recorded height", func() bool {
					r = run()
					return norm.diff(s.stdout, r.stdout) == ""
				})
			}
			compare(t, norm, s, r)
		})
	}
}

// compare checks what a command left against the recording.
func compare(t *testing.T, norm normalizer, s *step, r result) {
	t.Helper()
	if want := s.rc; want != strconv.Itoa(r.code) {
		t.Errorf("exit code %d, want %s", r.code, want)
	}
	if d := norm.diff(s.stdout, r.stdout); d != "" {
		t.Errorf("stdout (-want +got):\n%s", d)
	}
	if d := norm.diff(s.stderr, withoutRetries(r.stderr)); d != "" {
		t.Errorf("stderr (-want +got):\n%s", d)
	}
}

// withoutRetries drops the lines about a channel that is not ready yet: `peer
// channel create` asks again until it is.
func withoutRetries(stderr string) string {
	lines := strings.SplitAfter(stderr, "\n")
	for i := 0; i+2 < len(lines); {
		if strings.Contains(lines[i], "Got status: &{") && strings.Contains(lines[i+1], "connections initialized") {
			lines = slices.Delete(lines, i, i+2)
			continue
		}
		i++
	}
	return strings.Join(lines, "")
}
