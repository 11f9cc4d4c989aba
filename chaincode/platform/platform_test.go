package platform

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(t *testing.T, code []byte) []string {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name)
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	index := `{"index":{"fields":["a"]}}`
	for _, c := range []struct {
		typ   peer.ChaincodeSpec_Type
		files map[string]string
		want  []string
	}{
		{
			peer.ChaincodeSpec_NODE,
			map[string]string{
				"package.json": "{}", ".hidden": "x", "node_modules/a/a.js": "x", "lib/node_modules/b.js": "x", ".git/HEAD": "x", "x.gitignore": "x",
				"META-INF/statedb/couchdb/indexes/i.json": index, "META-INF/statedb/couchdb/indexes/.h.json": "x",
			},
			[]string{"src/.hidden", "META-INF/statedb/couchdb/indexes/i.json", "src/lib/node_modules/b.js", "src/package.json"},
		},
		{
			peer.ChaincodeSpec_JAVA,
			map[string]string{"pom.xml": "x", "src/main/java/A.java": "x", "src/A.class": "x", "target/t": "x", "build/b": "x", "out/o": "x", "src/out/o": "x"},
			[]string{"src/pom.xml", "src/src/main/java/A.java", "src/src/out/o"},
		},
	} {
		dir := tree(t, c.files)
		code, path, err := Code(c.typ, dir)
		if err != nil || path != dir {
			t.Fatal(path, err)
		}
		if diff := cmp.Diff(c.want, names(t, code)); diff != "" {
			t.Errorf("%s: %s", c.typ, diff)
		}
		cds := packaging.BuildCDS(c.typ, &peer.ChaincodeID{Name: "a"}, nil, code)
		if err := packaging.CheckCode(cds); err != nil {
			t.Errorf("%s: own package is refused: %v", c.typ, err)
		}
	}
}

func TestCodeCar(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"a.car": "car"})
	code, _, err := Code(peer.ChaincodeSpec_CAR, filepath.Join(dir, "a.car"))
	if err != nil || string(code) != "car" {
		t.Error(code, err)
	}
}

func TestCodeErrors(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, c := range []struct {
		typ        peer.ChaincodeSpec_Type
		path, want string
	}{
		{peer.ChaincodeSpec_UNDEFINED, "x", "Unknown chaincodeType: UNDEFINED"},
		{peer.ChaincodeSpec_NODE, "/no/such", "path to chaincode does not exist: /no/such"},
		{peer.ChaincodeSpec_NODE, empty, "error getting chaincode package bytes: no source files found in '" + empty + "'"},
	} {
		if _, _, err := Code(c.typ, c.path); err == nil || err.Error() != c.want {
			t.Errorf("%s %s: %v", c.typ, c.path, err)
		}
	}
}
