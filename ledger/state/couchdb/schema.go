package couchdb

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Members of documents, and the one attachment, in which values are kept
// (LEDGER §5.3).
const (
	memberID          = "_id"
	memberRev         = "_rev"
	memberDeleted     = "_deleted"
	memberAttachments = "_attachments"
	memberVersion     = "~version"

	attachmentName = "valueBytes"
	attachmentType = "application/octet-stream"
)

// savepointID is the document of the metadata database that holds the last
// applied block, as {"BlockNum":n,"TxNum":n} (LEDGER §5.5).
const savepointID = "statedb_savepoint"

// lifecycleNamespace has the definitions of chaincodes and their collections
// (LEDGER §4.3).
const (
	lifecycleNamespace = "lscc"
	collectionSuffix   = "~collection"
)

// Databases that CouchDB itself wants (LEDGER §5.1).
const (
	usersDB         = "_users"
	replicatorDB    = "_replicator"
	globalChangesDB = "_global_changes"
)

// Lengths of database names in bytes (LEDGER §5.2).
const (
	maxDatabaseName = 238
	keptOfName      = 50
)

const databasePattern = `[a-z][a-z0-9.$_()+-]*`

var databaseName = regexp.MustCompile(`^` + databasePattern + `$`)

// metadataDB is the name of the database that holds a channel's savepoint. Unless
// the channel's name is very long, it is that of the empty namespace as well.
func metadataDB(channel string) (string, error) {
	name := channel + "_"
	if len(channel) > maxDatabaseName {
		name = channel[:keptOfName] + "(" + hexHash(channel) + ")_"
	}
	return checkedName(name)
}

// namespaceDB is the name of a namespace's database.
func namespaceDB(channel, ns string) (string, error) {
	name := channel + "_" + escapeUpper(ns)
	if len(name) > maxDatabaseName {
		return shortName(channel, ns)
	}
	return checkedName(name)
}

// shortName is the name of a namespace's database where the full one would be
// too long.
func shortName(channel, ns string) (string, error) {
	cc, coll, isColl := strings.Cut(escapeUpper(ns), "$$")
	name := head(channel) + "_" + head(cc)
	if isColl {
		name += "$$" + head(coll)
	}
	return checkedName(name + "(" + hexHash(channel+"_"+ns) + ")")
}

func head(s string) string { return s[:min(len(s), keptOfName)] }

func hexHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// checkedName is the name under which a database is known to the server.
func checkedName(name string) (string, error) {
	switch {
	case len(name) > maxDatabaseName:
		return "", &nameError{fmt.Sprintf("database name [%s] is longer than %d bytes", name, maxDatabaseName)}
	case !databaseName.MatchString(name):
		return "", &nameError{fmt.Sprintf("database name [%s] does not match pattern [%s]", name, databasePattern)}
	}
	return strings.ReplaceAll(name, ".", "$"), nil
}

// nameError says that there can be no database of a name, and so no key in it.
type nameError struct{ text string }

func (e *nameError) Error() string { return e.text }

// empty is nil for a database that cannot be, which reads find empty; transactions
// may name it all the same.
func empty(err error) error {
	var name *nameError
	if errors.As(err, &name) {
		return nil
	}
	return err
}

// escapeUpper writes each upper-case letter as $ and its lower-case form.
func escapeUpper(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('$')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unescapeUpper undoes escapeUpper. It leaves the $$ before a collection's name
// alone.
func unescapeUpper(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "$$"):
			b.WriteString("$$")
			i++
		case s[i] == '$' && i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z':
			i++
			b.WriteByte(s[i] - 'a' + 'A')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// hashed tells whether keys of a namespace are hashes, which are written in
// base64 (LEDGER §4.3).
func hashed(ns string) bool {
	_, _, kind := state.SplitNamespace(ns)
	return kind == 'h'
}

// documentID is the identifier of the document that holds a key. Bytes that are
// no UTF-8 become U+FFFD, as in any JSON text; no transaction with such a key is
// valid (LEDGER §5.4).
func documentID(ns, key string) string {
	if hashed(ns) {
		if key == "" {
			return emptyHashID
		}
		return base64.StdEncoding.EncodeToString([]byte(key))
	}
	return validText(key)
}

// emptyHashID is the document of an empty hash, which only a made-up transaction
// has. It is no base64 of anything else.
const emptyHashID = "="

func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// foreign tells whether a document's identifier is none of a key: those that
// begin with an underscore are CouchDB's own, and the savepoint is ours.
func foreign(ns, id string) bool {
	return id == "" || id[0] == '_' || ns == "" && id == savepointID
}

// The identifiers that begin with an underscore lie before this one.
const afterUnderscore = "`"

// savepoint is the document savepointID.
type savepoint struct {
	BlockNum number
	TxNum    number
}

// number is an unsigned number, which may come back as some server's JSON
// library rounded it: a block without transactions has the greatest one, which
// is more than a double can hold.
type number uint64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(raw []byte) error {
	var u uint64
	if json.Unmarshal(raw, &u) == nil {
		*n = number(u)
		return nil
	}
	var f float64
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	switch {
	case f >= 1<<64:
		*n = 1<<64 - 1
	case f >= 0 && f == float64(uint64(f)):
		*n = number(f)
	default:
		return fmt.Errorf("[%s] is no block or transaction number", raw)
	}
	return nil
}
