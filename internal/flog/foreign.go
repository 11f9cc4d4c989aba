package flog

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxForeign bounds, in bytes, what others can put into one log line.
const maxForeign = 2048

// Foreign is text that may hold the words of a client. As an argument of a log
// line it makes neither lines of its own nor long ones, and costs nothing while
// the level is off.
type Foreign string

// String gives what goes into the log: what cannot be shown is replaced, and
// the end of a long text is missing.
func (f Foreign) String() string {
	text, cut := string(f), ""
	if len(text) > maxForeign {
		text, cut = text[:maxForeign], "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, text) + cut
}

// ForeignError is the text of an error that may quote a client; nil gives
// "<nil>".
func ForeignError(err error) Foreign {
	if err == nil {
		return "<nil>"
	}
	return Foreign(err.Error())
}
