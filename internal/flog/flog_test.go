package flog

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-lib-go/common/flogging"
	"go.uber.org/zap/zapcore"
)

// write logs a few entries of all kinds.
func write(l *Logger) {
	l.Debugf("one %d", 1)
	l.Info("two", "words")
	l.Warning("ends in newlines\n\n")
	l.Errorw("fields", "a key", 1, "text", "with blank")
	l.With("context", true).Infof("after With")
	l.Named("sub").Info("named")
}

// TestDefaultFormat compares our writer of the default format with the
// library's.
func TestDefaultFormat(t *testing.T) {
	t.Parallel()
	var ours, library bytes.Buffer
	l, err := New(&ours, "", "debug")
	if err != nil {
		t.Fatal(err)
	}
	write(l.Logger("a.b"))
	ref, err := flogging.New(flogging.Config{Format: DefaultFormat, LogSpec: "debug", Writer: &library})
	if err != nil {
		t.Fatal(err)
	}
	write(ref.Logger("a.b"))
	// Times differ, and the library counts lines for the whole process.
	normal := func(s string) string {
		s = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \w+`).ReplaceAllString(s, "TIME")
		return regexp.MustCompile(` [0-9a-f]{3}\x1b`).ReplaceAllString(s, " ID\x1b")
	}
	if got, want := normal(ours.String()), normal(library.String()); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if !strings.Contains(ours.String(), "-> DEBU 001\x1b[0m one 1\n") {
		t.Errorf("first line: %q", ours.String())
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"%{message}":                          "x\n",
		"%{level:.1s}%{module:4s}|%{message}": "I   m|x\n",
		"logfmt":                              "level=info name=m",
		"json":                                `"level":"info"`,
	} {
		var out bytes.Buffer
		l, err := New(&out, format, "info")
		if err != nil {
			t.Fatal(err)
		}
		l.Logger("m").Info("x")
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q", format, out.String())
		}
		out.Reset()
		if err := l.SetFormat("%{module}:%{message}"); err != nil {
			t.Fatal(err)
		}
		l.Root().Named("r").Info("y")
		if out.String() != "r:y\n" {
			t.Errorf("after SetFormat: %q", out.String())
		}
	}
	if _, err := New(&bytes.Buffer{}, "%{foo}", ""); err == nil {
		t.Error("unknown verb accepted")
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := New(&out, "%{message}", "warning:a.b=debug")
	if err != nil {
		t.Fatal(err)
	}
	root := l.Root()
	root.Info("off")
	root.Named("a").Named("b").Debug("on")
	root.Named("a.c").Info("off")
	if out.String() != "on\n" {
		t.Errorf("got %q", out.String())
	}
	if root.Named("a.b").IsEnabledFor(zapcore.DebugLevel) != true {
		t.Error("debug is off")
	}
	if _, err := New(&out, "", "x=y"); err == nil {
		t.Error("bad specification accepted")
	}
}

func TestHot(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, err := New(&out, "%{module} %{shortfunc} %{level} %{message}", "info:off=error")
	if err != nil {
		t.Fatal(err)
	}
	NewHot(l.Logger("m"), TestHot).Infof("n=%d", 1)
	NewHot(l.Logger("off"), TestHot).Infof("no")
	if out.String() != "m TestHot INFO n=1\n" {
		t.Errorf("got %q", out.String())
	}
}

func BenchmarkHot(b *testing.B) {
	l, err := New(discard{}, "", "info")
	if err != nil {
		b.Fatal(err)
	}
	log := NewHot(l.Logger("endorser"), TestHot)
	b.ReportAllocs()
	for b.Loop() {
		log.Infof("[%s][%s] Entry chaincode: %s", "bench", "12345678", "kv")
	}
}

func BenchmarkDefaultFormat(b *testing.B) {
	var out discard
	l, err := New(out, "", "info")
	if err != nil {
		b.Fatal(err)
	}
	log := l.Logger("endorser")
	b.ReportAllocs()
	for b.Loop() {
		log.Infof("[%s][%s] Entry chaincode: %s", "bench", "12345678", "kv")
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
