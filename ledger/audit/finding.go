package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Severity says what a finding means.
type Severity string

// Severities, from worst.
const (
	Damage  Severity = "damage"  // something is lost or wrong and does not mend by itself
	Warning Severity = "warning" // something could not be trusted or is unusual
	Repair  Severity = "repair"  // the next start of the node mends it
	Note    Severity = "note"    // worth knowing
)

func (s Severity) rank() int { return slices.Index([]Severity{Damage, Warning, Repair, Note}, s) }

// Finding is one thing that is not as it should be. Fields that do not apply are
// zero.
type Finding struct {
	Severity Severity `json:"severity"`
	// Kind is the name of the check that found it.
	Kind string `json:"kind"`
	// File and Offset, or Database and Key, are where it lies.
	File     string `json:"file,omitempty"`
	Offset   *int64 `json:"offset,omitempty"`
	Database string `json:"database,omitempty"`
	// Document is that of CouchDB, quoted.
	Document string  `json:"document,omitempty"`
	Key      string  `json:"key,omitempty"`
	Block    *uint64 `json:"block,omitempty"`
	Tx       *int    `json:"tx,omitempty"`
	TxID     string  `json:"txid,omitempty"`

	Problem     string `json:"problem"`
	Consequence string `json:"consequence,omitempty"`
	Remedy      string `json:"remedy,omitempty"`
}

// Where is the place of a finding in words, empty if it has none.
func (f *Finding) Where() string {
	var parts []string
	if f.File != "" {
		parts = append(parts, f.File)
	}
	if f.Offset != nil {
		parts = append(parts, fmt.Sprintf("offset %d", *f.Offset))
	}
	if f.Database != "" {
		parts = append(parts, f.Database)
	}
	if f.Document != "" {
		parts = append(parts, "document "+f.Document)
	}
	if f.Key != "" {
		parts = append(parts, "key "+f.Key)
	}
	if f.Block != nil {
		parts = append(parts, fmt.Sprintf("block %d", *f.Block))
	}
	if f.Tx != nil {
		parts = append(parts, fmt.Sprintf("transaction %d", *f.Tx))
	}
	if f.TxID != "" {
		parts = append(parts, "id "+f.TxID)
	}
	return strings.Join(parts, ", ")
}

func (f Finding) atBlock(n uint64) Finding { f.Block = &n; return f }

func (f Finding) atTx(i int, id string) Finding { f.Tx, f.TxID = &i, id; return f }

func (f Finding) at(file string, offset int64) Finding { f.File, f.Offset = file, &offset; return f }

// maxPerKind bounds the findings of one kind that are kept; the others are only
// counted.
const maxPerKind = 20

// findings collects what the parts of a check report.
type findings struct {
	mu     sync.Mutex // guards what follows
	list   []Finding
	counts map[string]int
	worst  map[string]Severity
}

func (c *findings) add(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts, c.worst = map[string]int{}, map[string]Severity{}
	}
	key := f.Kind + "\x00" + string(f.Severity)
	c.counts[key]++
	if w, ok := c.worst[f.Kind]; !ok || f.Severity.rank() < w.rank() {
		c.worst[f.Kind] = f.Severity
	}
	if c.counts[key] <= maxPerKind {
		c.list = append(c.list, f)
	}
}

// has tells whether any of the kinds has a finding at least so bad.
func (c *findings) has(s Severity, kinds ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, worst := range c.worst {
		if worst.rank() <= s.rank() && (len(kinds) == 0 || slices.Contains(kinds, kind)) {
			return true
		}
	}
	return false
}

// sorted is what was found, worst first, then in the order of blocks and places.
// Kinds of which not all are kept end with their number.
func (c *findings) sorted() []Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := append([]Finding{}, c.list...)
	for key, n := range c.counts {
		if n > maxPerKind {
			kind, severity, _ := strings.Cut(key, "\x00")
			out = append(out, Finding{
				Severity: Severity(severity), Kind: kind,
				Problem: fmt.Sprintf("%d more findings of this kind are not listed", n-maxPerKind),
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.Severity.rank(), b.Severity.rank()), cmp.Compare(number(a.Block), number(b.Block)),
			cmp.Compare(a.File, b.File), cmp.Compare(number(a.Offset), number(b.Offset)),
			cmp.Compare(number(a.Tx), number(b.Tx)), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Database, b.Database), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Document, b.Document),
		)
	})
	return out
}

// number orders what has none behind what has one.
func number[N int | int64 | uint64](n *N) uint64 {
	if n == nil {
		return 1 << 63
	}
	return uint64(*n)
}
