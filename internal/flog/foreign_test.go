package flog

import (
	"errors"
	"strings"
	"testing"
)

func TestForeignTextStaysOnItsLine(t *testing.T) {
	t.Parallel()
	cases := []struct{ in, want string }{
		{"plain text, Ünicode", "plain text, Ünicode"},
		{"a\nforged line\r\x1b[31m\x00\xff", "a\uFFFDforged line\uFFFD\uFFFD[31m\uFFFD\uFFFD"},
		{strings.Repeat("x", 5000), strings.Repeat("x", 2048) + "..."},
	}
	for _, tc := range cases {
		if got := Foreign(tc.in).String(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if got := ForeignError(errors.New("a\nb")).String(); got != "a\uFFFDb" {
		t.Errorf("got %q", got)
	}
	if got := ForeignError(nil).String(); got != "<nil>" {
		t.Errorf("got %q", got)
	}
}
