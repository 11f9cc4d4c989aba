package process

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

func TestMain(m *testing.M) {
	// See TestChildrenDieWithThePeer.
	if dir := os.Getenv("PROCESS_TEST_PEER"); dir != "" {
		c := newChild(nil, func(*child) {})
		if err := c.start(command{path: "/bin/sleep", args: []string{"sleep", "1000"}, dir: dir}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.pid)
		select {}
	}
	os.Exit(m.Run())
}

func pack(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Close()
	gz.Close()
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	reg := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o100644} }
	dir := t.TempDir()
	code := pack(t, &tar.Header{Name: "src/", Typeflag: tar.TypeDir, Mode: 0o40755}, reg("src/a/b.go"), reg("META-INF/x.json"))
	if err := unpack(code, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"src/a/b.go", "META-INF/x.json"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "x" {
			t.Error(name, b, err)
		}
	}
	for name, h := range map[string]*tar.Header{
		"absolute": reg("/etc/x"), "parent": reg("../x"), "hidden parent": reg("src/../../x"),
		"symlink": {Name: "src/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, "hard link": {Name: "src/l", Typeflag: tar.TypeLink, Linkname: "src/a"},
		"device": {Name: "src/d", Typeflag: tar.TypeChar}, "fifo": {Name: "src/f", Typeflag: tar.TypeFifo},
	} {
		if err := unpack(pack(t, h), t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), "illegal ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := unpack([]byte("nope"), t.TempDir()); err == nil {
		t.Error("unpacked garbage")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, &tar.Header{Name: "src/a.go", Typeflag: tar.TypeReg}))
	f.Add(pack(f, &tar.Header{Name: "src/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}))
	outside := f.TempDir()
	f.Fuzz(func(t *testing.T, code []byte) {
		dir := filepath.Join(outside, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		_ = unpack(code, dir)
		if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
			t.Fatalf("outside of the directory: %v %v", left, err)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files, path string
		want        plan // dir relative
	}{
		{"src/go.mod src/vendor/modules.txt", "m/cmd", plan{dir: "src", args: []string{"-mod=vendor", "m/cmd"}}},
		{"src/go.mod src/m/go.mod", "m", plan{dir: "src", args: []string{"-mod=readonly", "m"}}},
		{"src/m/cc/go.mod src/m/cc/vendor/modules.txt", "https://m/cc/", plan{dir: "src/m/cc", args: []string{"-mod=vendor", "."}}},
		{"src/m/cc/go.mod", "http://m/cc", plan{dir: "src/m/cc", args: []string{"-mod=readonly", "."}}},
		{"src/m/cc/main.go", "m/cc", plan{dir: ".", args: []string{"m/cc"}, gopath: true}},
	} {
		dir := t.TempDir()
		for _, f := range strings.Fields(c.files) {
			p := filepath.Join(dir, f)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := planOf(dir, c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got.dir, err = filepath.Rel(dir, got.dir); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(plan{})); diff != "" {
			t.Errorf("%s: %s", c.files, diff)
		}
	}
	for _, path := range []string{"", "../x", "/x", "-toolexec=evil", "https://", "...", "m/...", "cmd/go"} {
		if _, err := planOf(t.TempDir(), path); err == nil {
			t.Errorf("planned %q", path)
		}
	}
}

func TestToolEnvironment(t *testing.T) {
	t.Parallel()
	b := newBuilder(Config{Dir: "/d", Metrics: metrics.Disabled(), Environ: []string{
		"PATH=/bin", "CORE_PEER_ID=x", "GOPROXY=p", "https_proxy=q", "CGO_ENABLED=0", "AWS_SECRET=s", "GOFLAGS=-mod=mod -v",
	}})
	got := b.toolEnv()
	slices.Sort(got)
	want := []string{"CGO_ENABLED=0", "GOCACHE=/d/gocache", "GOFLAGS=-mod=mod -v", "GOPROXY=p", "PATH=/bin", "https_proxy=q"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := withoutModFlag("-mod=mod -v --mod=vendor -modcacherw"); got != "-v -modcacherw" {
		t.Errorf("%q", got)
	}
}

// One build serves all that ask for it at the same time and afterwards; a
// failure is tried again.
func TestBuildOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A Go tool that counts its builds and fails when told.
	tool := filepath.Join(dir, "go")
	script := "#!/bin/sh\n[ $1 = env ] && { echo go1.99; exit; }\necho run >> " + dir + "/count\n[ -e " + dir + "/fail ] && { echo no luck; exit 3; }\nwhile [ $1 != -o ]; do shift; done\necho built > $2\n[ -e " + dir + "/library ] || chmod 700 $2\n"
	if err := os.WriteFile(tool, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := Open(Config{Dir: filepath.Join(dir, "rt"), Go: tool, Environ: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := &runtime.Spec{Name: "cc", Version: "1", Path: "m", Type: peer.ChaincodeSpec_GOLANG, CodePackage: pack(t, &tar.Header{Name: "src/m/a.go", Typeflag: tar.TypeReg}, &tar.Header{Name: "src/n/a.go", Typeflag: tar.TypeReg})}
	count := func() int {
		b, _ := os.ReadFile(dir + "/count")
		return bytes.Count(b, []byte("run"))
	}
	if err := os.WriteFile(dir+"/fail", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.builder.build(t.Context(), spec)
	if want := "Error returned from build: 3 \"no luck\n\""; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	os.Remove(dir + "/fail")
	if err := os.WriteFile(dir+"/library", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.builder.build(t.Context(), spec)
	if want := "Error returned from build: 1 \"m is not a main package\n\""; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	os.Remove(dir + "/library")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := r.builder.build(t.Context(), spec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(); n != 3 {
		t.Errorf("%d builds", n)
	}
	// It survives the runtime; another path is another build.
	r.Close()
	if r, err = Open(Config{Dir: filepath.Join(dir, "rt"), Go: tool, Environ: os.Environ()}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, path := range []string{"m", "n"} {
		s := *spec
		s.Path = path
		if _, err := r.builder.build(t.Context(), &s); err != nil {
			t.Error(err)
		}
		if n := count(); n != 3+i {
			t.Errorf("%d builds", n)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "rt", "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestChild(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]struct {
		code int
		out  string
	}{
		"echo one; echo two >&2; exit 5": {5, "one\ntwo"},
		"printf half":                    {0, "half"},
		"kill -TERM $$":                  {128 + 15, ""},
		"seq 100":                        {0, "91\n92\n93\n94\n95\n96\n97\n98\n99\n100"},
	} {
		c := newChild(nil, func(*child) {})
		dir := filepath.Join(t.TempDir(), "private")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.start(command{path: "/bin/sh", args: []string{"sh", "-c", script}, dir: dir, env: []string{"PATH=" + os.Getenv("PATH")}}); err != nil {
			t.Fatal(err)
		}
		code, err := c.Wait(t.Context())
		if err != nil || code != want.code || c.Output() != want.out {
			t.Errorf("%s: %d %v %q", script, code, err, c.Output())
		}
		if exists(dir) {
			t.Error("private directory is still there")
		}
		c.Stop() // harmless
	}
	c := newChild(nil, func(*child) {})
	if err := c.start(command{path: "/no/such"}); err == nil {
		t.Error("started nothing")
	}
}

// Stop takes along what the chaincode has started, and Wait ends with its
// context.
func TestStopKillsTheGroup(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 1)
	c := newChild(func(l string) { lines <- l }, func(*child) {})
	if err := c.start(command{path: "/bin/sh", args: []string{"sh", "-c", "sleep 1000 & echo $!; wait"}, env: []string{"PATH=" + os.Getenv("PATH")}}); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(<-lines, &pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.Stop()
	if code, err := c.Wait(t.Context()); err != nil || code != 128+9 {
		t.Error(code, err)
	}
	awaitDeath(t, pid)
}

func TestChildrenDieWithThePeer(t *testing.T) {
	t.Parallel()
	peer := exec.Command(os.Args[0])
	peer.Env = append(os.Environ(), "PROCESS_TEST_PEER="+t.TempDir())
	out, err := peer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatal("the child does not run")
	}
	peer.Process.Kill() //nolint:errcheck // it is there
	peer.Wait()         //nolint:errcheck // killed
	awaitDeath(t, pid)
}

// awaitDeath waits until a process is gone or nobody's zombie.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d lives", pid)
}
