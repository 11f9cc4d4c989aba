package validation

import "testing"

func TestSystemNames(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                       string
		system, closed, uncallable bool
	}{
		{"lscc", true, false, false},
		{"qscc", true, false, false},
		{"cscc", true, false, true},
		{"+lifecycle", true, false, false}, // disabled, but known
		{"escc", true, true, true},
		{"vscc", true, true, true},
		{"_lifecycle", false, false, false}, // of later versions
		{"mycc", false, false, false},
		{"", false, false, false},
	}
	for _, tc := range cases {
		if isSystem(tc.name) != tc.system || isClosed(tc.name) != tc.closed || isUncallable(tc.name) != tc.uncallable {
			t.Errorf("%s: %v %v %v", tc.name, isSystem(tc.name), isClosed(tc.name), isUncallable(tc.name))
		}
	}
}

// lsccState is a state with a chaincode whose collections are garbage.
type lsccState struct{ State }

func (lsccState) GetState(string, string) ([]byte, error) { return []byte("garbage"), nil }

func TestGarbageDefinesNoCollections(t *testing.T) {
	t.Parallel()
	c := newDefinitionCache(nil)
	c.state = lsccState{}
	if defined, err := c.Defines("cc", "coll"); defined || err != nil {
		t.Errorf("got %v, %v", defined, err)
	}
}
