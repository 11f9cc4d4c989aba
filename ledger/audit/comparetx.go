package audit

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// data names the first transaction that differs.
func (x *comparer) data(n uint64, p, q *common.Block) *Difference {
	a, b := protoutil.ParseBlock(p), protoutil.ParseBlock(q)
	for i := range min(a.Len(), b.Len()) {
		if bytes.Equal(a.Tx(i).Bytes(), b.Tx(i).Bytes()) {
			continue
		}
		d := &Difference{Block: &n, Tx: &i, TxID: a.Tx(i).ID()}
		d.Field, d.A, d.B = compareTx(a.Tx(i), b.Tx(i))
		return d
	}
	return &Difference{Block: &n, Field: "number of transactions", A: fmt.Sprint(a.Len()), B: fmt.Sprint(b.Len())}
}

// part is a part of a transaction.
type part struct {
	name string
	read func(*protoutil.Tx) ([]byte, error)
}

// parts of a transaction, in the order in which they are compared: those that say
// most come first.
func parts() []part {
	return []part{
		{"channel header", func(t *protoutil.Tx) ([]byte, error) {
			p, err := t.Payload()
			return p.GetHeader().GetChannelHeader(), err
		}},
		{"signature header", func(t *protoutil.Tx) ([]byte, error) {
			p, err := t.Payload()
			return p.GetHeader().GetSignatureHeader(), err
		}},
		{"payload data", func(t *protoutil.Tx) ([]byte, error) {
			p, err := t.Payload()
			return p.GetData(), err
		}},
		{"signature", func(t *protoutil.Tx) ([]byte, error) {
			e, err := t.Envelope()
			return e.GetSignature(), err
		}},
	}
}

// compareTx names the first part of two envelopes that differs.
func compareTx(a, b *protoutil.Tx) (field, first, second string) {
	if x, y := a.ID(), b.ID(); x != y {
		return "transaction id", x, y
	}
	for _, p := range parts() {
		x, xerr := p.read(a)
		y, yerr := p.read(b)
		if xerr == nil && yerr == nil && bytes.Equal(x, y) {
			continue
		}
		if xerr != nil || yerr != nil {
			return p.name, partText(x, xerr), partText(y, yerr)
		}
		if p.name == "payload data" {
			if field, first, second, ok := compareAction(a, b); ok {
				return field, first, second
			}
		}
		return bytesFrom(p.name, x, y)
	}
	return bytesFrom("envelope", a.Bytes(), b.Bytes())
}

func partText(b []byte, err error) string {
	if err != nil {
		return fmt.Sprintf("undecodable (%v)", err)
	}
	return bytesText(b)
}

// bytesText shows the beginning of bytes in hexadecimal.
func bytesText(b []byte) string {
	const most = 64
	if len(b) > most {
		return fmt.Sprintf("%x… (%d bytes)", b[:most], len(b))
	}
	return hexText(b)
}

// bytesFrom shows two different strings of bytes from the first difference on.
func bytesFrom(name string, x, y []byte) (field, first, second string) {
	at := 0
	for at < len(x) && at < len(y) && x[at] == y[at] {
		at++
	}
	if at > 0 {
		name = fmt.Sprintf("%s, from byte %d on", name, at)
	}
	return name, bytesText(x[at:]), bytesText(y[at:])
}

// compareAction compares what endorsed transactions do; ok is false if they do
// the same, or it cannot be told.
func compareAction(a, b *protoutil.Tx) (field, first, second string, ok bool) {
	x, err := a.ActionPayload()
	if err != nil {
		return "", "", "", false
	}
	y, err := b.ActionPayload()
	if err != nil {
		return "", "", "", false
	}
	p, q := x.GetChaincodeProposalPayload(), y.GetChaincodeProposalPayload()
	if !bytes.Equal(p, q) {
		field, first, second = bytesFrom("chaincode proposal payload", p, q)
		return field, first, second, true
	}
	if field, first, second, ok = compareSets(a, b); ok {
		return field, first, second, true
	}
	p, q = x.GetAction().GetProposalResponsePayload(), y.GetAction().GetProposalResponsePayload()
	if !bytes.Equal(p, q) {
		field, first, second = bytesFrom("proposal response payload", p, q)
		return field, first, second, true
	}
	c, d := x.GetAction().GetEndorsements(), y.GetAction().GetEndorsements()
	if len(c) != len(d) {
		return "number of endorsements", fmt.Sprint(len(c)), fmt.Sprint(len(d)), true
	}
	for i := range c {
		name := fmt.Sprintf("endorsement %d", i)
		if s, t := c[i].GetEndorser(), d[i].GetEndorser(); !bytes.Equal(s, t) {
			return name + ", endorser", endorserText(s), endorserText(t), true
		}
		if s, t := c[i].GetSignature(), d[i].GetSignature(); !bytes.Equal(s, t) {
			field, first, second = bytesFrom(name+", signature", s, t)
			return field, first, second, true
		}
	}
	return "", "", "", false
}

func endorserText(raw []byte) string {
	if id := describeIdentity(raw); id != nil {
		return id.String()
	}
	return bytesText(raw)
}

// compareSets compares the read-write sets of two transactions.
func compareSets(a, b *protoutil.Tx) (field, first, second string, ok bool) {
	x, err := a.RWSet()
	if err != nil {
		return "", "", "", false
	}
	y, err := b.RWSet()
	if err != nil {
		return "", "", "", false
	}
	for i := range max(len(x.Namespaces), len(y.Namespaces)) {
		if i >= len(x.Namespaces) || i >= len(y.Namespaces) || x.Namespaces[i].Namespace != y.Namespaces[i].Namespace {
			return "namespaces of the read-write set", fmt.Sprintf("%q", namespaces(x)), fmt.Sprintf("%q", namespaces(y)), true
		}
		ns := x.Namespaces[i].Namespace
		c, d := x.Namespaces[i].KV, y.Namespaces[i].KV
		if field, first, second, ok = compareItems(ns, "write", c.GetWrites(), d.GetWrites(), writeText); ok {
			return field, first, second, true
		}
		if field, first, second, ok = compareItems(ns, "read", c.GetReads(), d.GetReads(), readText); ok {
			return field, first, second, true
		}
		if !proto.Equal(c, d) {
			return fmt.Sprintf("range queries or metadata in namespace %q", ns), protoutil.Text(c), protoutil.Text(d), true
		}
	}
	return "", "", "", false
}

func namespaces(s *protoutil.TxRWSet) []string {
	var out []string
	for i := range s.Namespaces {
		out = append(out, s.Namespaces[i].Namespace)
	}
	return slices.Clip(out)
}

// keyed is a read or a write.
type keyed interface {
	proto.Message
	GetKey() string
}

func compareItems[T keyed](ns, what string, a, b []T, text func(T) string) (field, first, second string, ok bool) {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("%s of key %q in namespace %q", what, b[i].GetKey(), ns), "none", text(b[i]), true
		case i >= len(b):
			return fmt.Sprintf("%s of key %q in namespace %q", what, a[i].GetKey(), ns), text(a[i]), "none", true
		case a[i].GetKey() != b[i].GetKey():
			return fmt.Sprintf("%s %d in namespace %q", what, i, ns), fmt.Sprintf("key %q", a[i].GetKey()), fmt.Sprintf("key %q", b[i].GetKey()), true
		case !proto.Equal(a[i], b[i]):
			return fmt.Sprintf("%s of key %q in namespace %q", what, a[i].GetKey(), ns), text(a[i]), text(b[i]), true
		}
	}
	return "", "", "", false
}

func writeText(w *kvrwset.KVWrite) string {
	if w.GetIsDelete() {
		return "delete"
	}
	return "value " + excerpt(w.GetValue())
}

func readText(r *kvrwset.KVRead) string {
	if r.GetVersion() == nil {
		return "absent"
	}
	return fmt.Sprintf("version %d:%d", r.GetVersion().GetBlockNum(), r.GetVersion().GetTxNum())
}
