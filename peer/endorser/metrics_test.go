package endorser

import (
	"fmt"
	"testing"
)

func TestLabelValuesAreBounded(t *testing.T) {
	t.Parallel()
	var l labelValues
	for i := range maxLabelValues {
		if v := fmt.Sprint("cc", i); l.admit(v) != v {
			t.Fatalf("%s is not admitted", v)
		}
	}
	if got := l.admit("one more"); got != "other" {
		t.Errorf("got %s", got)
	}
	if got := l.admit("cc0"); got != "cc0" {
		t.Errorf("got %s", got)
	}
}
