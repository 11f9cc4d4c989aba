package e2e

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestDaemonStart replays starts of the daemons: exit codes and the first
// error text of every start that fails, all lines of those that succeed.
func TestDaemonStart(t *testing.T) {
	n := newNetwork(t, options{})
	s := &starts{t: t, n: n, ports: freePorts(t, 8)}
	s.prepare()
	for _, st := range readTranscript(t, "testdata/daemon_start.txt") {
		t.Run(strings.TrimSpace(st.comment+" "+st.line()), func(t *testing.T) { s.replay(t, st) })
	}
}

// starts is the surroundings of the recorded starts.
type starts struct {
	t     *testing.T
	n     *network
	ports []int // stand for 45443 45444 45052 45060 45061 45062 45463 45464
	bad   string
	norm  normalizer
}

// prepare makes what the recordings presuppose: a running orderer, a running
// peer, used ports, directories.
func (s *starts) prepare() {
	n, at := s.n, func(i int) string { return address(s.ports[i]) }
	s.bad = n.path("badcfg")
	n.startOrderer("ORDERER_FILELEDGER_LOCATION=" + n.path("od"))
	n.admin(0).peer(n.ordered("channel", "create", "-c", "mychannel", "-f", "mychannel.tx")...)
	n.startPeer(0, "CORE_PEER_FILESYSTEMPATH="+n.path("pd"))
	for _, i := range []int{0, 1, 2} {
		l, err := net.Listen("tcp", at(i))
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { l.Close() })
	}
	s.norm.places = strings.NewReplacer(
		"127.0.0.1:45050", n.ordererAddress(), "127.0.0.1:45051", n.peerAddress(0),
		"127.0.0.1:45443", at(0), "127.0.0.1:45444", at(1), "127.0.0.1:45052", at(2), "45050", port(n.orderer),
		"45060", port(s.ports[3]), "45061", port(s.ports[4]), "45062", port(s.ports[5]), "45463", port(s.ports[6]),
		"$CFG", n.cfg, "$CRYPTO", n.path("crypto"), "$PEERORGS", n.path("crypto/peerOrganizations"),
		"$DIR", n.dir, "$PEER0", n.peerDir(0), "$ORDERER", n.ordererDir(),
	)
}

// skipped starts: idemix, and gossip keys, which this version does not read.
func skipped(st *step) bool {
	for _, v := range st.env {
		switch v {
		case "CORE_PEER_LOCALMSPTYPE=idemix", "CORE_PEER_GOSSIP_ENDPOINT=nohostport":
			return true
		}
	}
	return false
}

func (s *starts) replay(t *testing.T, st *step) {
	if skipped(st) {
		t.Skip("not part of this version")
	}
	s.files(t, st.comment)
	if err := os.RemoveAll(s.n.cfg + "/nosuch"); err != nil { // key stores are made
		t.Fatal(err)
	}
	for i, v := range st.env {
		st.env[i] = s.norm.places.Replace(v)
	}
	if st.args[0] == "orderer" && !strings.HasPrefix(st.comment, "again ") {
		if err := os.RemoveAll(s.n.path("od2")); err != nil {
			t.Fatal(err)
		}
	}
	env := st.apply(s.base(t, st.args[0]))
	if st.rc == "timeout" {
		s.good(t, st, env)
		return
	}
	d := start(t, s.n.dir, env, st.args[0], st.args[1:]...)
	code := d.wait()
	if want := st.rc; want != strconv.Itoa(code) {
		t.Errorf("exit code %d, want %s", code, want)
	}
	if st.comment == "data directory used by a running peer" { // LEDGER §2.4: the lock first, and its text
		st.stderr = []string{"Error: as another peer node command is executing, wait for that command to complete its execution " +
			"or terminate it before retrying: lock is already acquired on file " + s.n.path("pd/ledgersData/fileLock")}
	}
	want, got := firstError(s.norm.lines(st.stderr)), firstError(s.norm.lines(splitLines(d.log.String())))
	if !strings.HasPrefix(got, want) {
		t.Errorf("first error\n%q, want\n%q\nlog:\n%s", got, want, d.log.tail(8))
	}
	if len(st.stderr) > 0 && strings.HasPrefix(st.stderr[0], "usage:") || st.stdout != nil {
		if diff := s.norm.diff(append(st.stdout, st.stderr...), d.log.String()); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
	}
}

// good checks a start that succeeds: the lines that scripts wait for, and a
// good end.
func (s *starts) good(t *testing.T, st *step, env []string) {
	d := start(t, s.n.dir, env, st.args[0], st.args[1:]...)
	ready := "Beginning to serve requests"
	if st.args[0] == "peer" {
		ready = "Started peer with ID="
	}
	d.waitFor(ready)
	d.stop()
	if e := firstError(splitLines(d.log.String())); e != "" {
		t.Errorf("logged %q", e)
	}
	got := strings.Join(s.norm.lines(splitLines(d.log.String())), "\n") + "\n"
	for _, l := range s.norm.lines(st.stderr) {
		if !wanted(l) {
			continue
		}
		if !strings.Contains(got, l+"\n") {
			t.Errorf("missing line %q", l)
		}
	}
	if t.Failed() {
		t.Logf("log:\n%s", got)
	}
}

// wanted tells which lines of a good start ours must have: those about the
// configuration and those that users wait for.
func wanted(line string) bool {
	switch {
	case strings.HasSuffix(line, "Keystore ="), strings.HasSuffix(line, "PluginOpts ="): // kinds of key stores that we lack
		return false
	case strings.HasPrefix(line, "\t"), strings.HasPrefix(line, " "):
		return true
	case strings.HasPrefix(line, "[gossip"), strings.HasPrefix(line, "[kvledger]"), strings.HasPrefix(line, "[ledgermgmt]"),
		strings.HasPrefix(line, "[fsblkstorage]"), strings.HasPrefix(line, "[sccapi]"), strings.HasPrefix(line, "[discovery]"),
		strings.HasPrefix(line, "[cscc]"), strings.HasPrefix(line, "[qscc]"), strings.Contains(line, "Discovery service"),
		strings.HasPrefix(line, "[peer] -> INFO "), strings.Contains(line, "computeChaincodeEndpoint"), strings.Contains(line, "ccEndpoint"):
		return false
	}
	return true
}

// firstError is the text of the first error of a start, without the prefix of
// its line and without the text of a library that follows a wrapped line.
func firstError(lines []string) string {
	for i, l := range lines {
		for _, mark := range []string{"-> ERRO ", "-> FATA ", "-> PANI ", "panic: ", "Error: ", "orderer: error: "} {
			_, text, ok := strings.Cut(l, mark)
			if !ok {
				continue
			}
			if strings.Contains(mark, "->") { // drop the line's number, if it has one
				text = strings.TrimPrefix(text, numberOf(text))
			}
			for _, more := range lines[i+1:] { // decoding errors are lists
				if more != "" && !strings.HasPrefix(more, "* ") {
					break
				}
				text += "\n" + more
			}
			return strings.TrimSpace(text)
		}
	}
	return ""
}

func numberOf(text string) string {
	word, _, _ := strings.Cut(text, " ")
	if len(word) >= 3 && strings.Trim(word, "0123456789abcdef") == "" {
		return word + " "
	}
	return ""
}

// files writes the configuration file that a comment describes.
func (s *starts) files(t *testing.T, comment string) {
	sample := func(name string) string { return readFile(t, s.n.cfg+"/"+name) }
	change := func(name, old, with string) string {
		text := sample(name)
		if !strings.Contains(text, old) {
			t.Fatalf("%s lacks %q", name, old)
		}
		return strings.Replace(text, old, with, 1)
	}
	write := func(name string, text func() string) {
		if err := os.RemoveAll(s.bad); err != nil {
			t.Fatal(err)
		}
		writeFile(t, s.bad+"/"+name, text())
	}
	text := func(v string) func() string { return func() string { return v } }
	switch comment {
	case `orderer.yaml = "General: ["`:
		write("orderer.yaml", text("General: ["))
	case "unknown top-level key Foo":
		write("orderer.yaml", func() string { return sample("orderer.yaml") + "\nFoo: 1\n" })
	case "unknown key General.Bar":
		write("orderer.yaml", func() string { return change("orderer.yaml", "\nGeneral:\n", "\nGeneral:\n  Bar: 1\n") })
	case `core.yaml = "peer: ["`:
		write("core.yaml", text("peer: ["))
	case "empty core.yaml":
		write("core.yaml", text(""))
	case "BCCSP.Default FOO":
		write("core.yaml", func() string { return change("core.yaml", "Default: SW", "Default: FOO") })
	}
}

// base is the environment of the recorded starts.
func (s *starts) base(t *testing.T, command string) []string {
	n := s.n
	if command == "orderer" {
		noTLS := *n
		noTLS.noTLS = true
		return noTLS.ordererEnv(
			"ORDERER_GENERAL_LISTENPORT="+port(s.ports[3]),
			"ORDERER_FILELEDGER_LOCATION="+n.path("od2"),
			"ORDERER_OPERATIONS_LISTENADDRESS="+address(s.ports[6]),
		)
	}
	return n.peerEnv(0,
		"CORE_PEER_ID=jdoe",
		"CORE_PEER_LISTENADDRESS="+address(s.ports[4]), "CORE_PEER_ADDRESS="+address(s.ports[4]),
		"CORE_PEER_CHAINCODELISTENADDRESS="+address(s.ports[5]),
		"CORE_OPERATIONS_LISTENADDRESS="+address(s.ports[7]),
		"CORE_PEER_FILESYSTEMPATH="+t.TempDir(),
	)
}
