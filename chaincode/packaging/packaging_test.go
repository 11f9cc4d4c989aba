package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

type packageVector struct {
	File, Kind, Name, Version, Path, Type, ID string
	DataHex                                   string   `json:"chaincode_data_data_field_hex"`
	ChaincodeDataHex                          string   `json:"chaincode_data_hex"`
	PolicyHex                                 string   `json:"instantiation_policy_hex"`
	Artifacts                                 []string `json:"statedb_artifacts"`
	InstalledName                             string   `json:"installed_file_name"`
	CheckError                                string   `json:"validate_deployment_spec_error"`
	Owners                                    []struct {
		Endorser string `json:"endorser_hex"`
	} `json:"owner_endorsements"`
}

func readJSON[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func readPackage(t testing.TB, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "packages", file))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The packages of a reference peer give the same kind, hashes, ids and ledger
// records.
func TestParseVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readJSON[[]packageVector](t, "packages.json") {
		if v.File == "go_vec_3.0.cds" {
			continue // the same code as 1.0 and 2.0
		}
		t.Run(v.File, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(readPackage(t, v.File))
			if err != nil {
				t.Fatal(err)
			}
			kind := map[Kind]string{KindCDS: "CDS", KindSignedCDS: "SignedCDS"}[p.Kind()]
			data := &ChaincodeData{Name: p.Name(), Version: p.Version(), Data: p.Data(), ID: p.ID(), InstantiationPolicy: p.InstantiationPolicy()}
			got := packageVector{
				File: v.File, Kind: kind, Name: p.Name(), Version: p.Version(), Path: p.Path(), Type: p.Type().String(),
				ID: hex.EncodeToString(p.ID()), DataHex: hex.EncodeToString(p.Data()), ChaincodeDataHex: hex.EncodeToString(data.Marshal()),
				PolicyHex: hex.EncodeToString(p.InstantiationPolicy()), InstalledName: p.Name() + "." + p.Version(),
			}
			for _, o := range p.Owners() {
				got.Owners = append(got.Owners, struct {
					Endorser string `json:"endorser_hex"`
				}{hex.EncodeToString(o.Endorser)})
			}
			files, err := StateDBFiles(p.Spec())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				got.Artifacts = append(got.Artifacts, f.Name)
				if err := CheckMetadataFile(f.Name, f.Content); err != nil {
					t.Error(err)
				}
			}
			if err := CheckCode(p.Spec()); err != nil {
				got.CheckError = err.Error()
			}
			if diff := cmp.Diff(v, got); diff != "" {
				t.Error(diff)
			}
			back, err := ParseChaincodeData(data.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.CheckAgainst(back); err != nil {
				t.Error(err)
			}
			back.Data = append([]byte{}, back.Data...)
			back.Data[5] ^= 1
			if err := p.CheckAgainst(back); err == nil || err.Error() != "data mismatch" {
				t.Error(err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	noSpec := protoutil.Marshal(&peer.ChaincodeDeploymentSpec{CodePackage: []byte("x")})
	bell := protoutil.Marshal(BuildCDS(peer.ChaincodeSpec_GOLANG, &peer.ChaincodeID{Name: "a\a"}, nil, nil))
	for name, raw := range map[string][]byte{"empty": nil, "garbage": {0xff, 1}, "without spec": noSpec, "unprintable": bell} {
		if _, err := Parse(raw); err == nil || err.Error() != "could not unmarshal chaincode package to CDS or SignedCDS" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckCodeVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readJSON[[]struct {
		Type, Error, Mode, Code string
		Names                   []string
	}](t, "code_package_validation.json") {
		var code []byte
		switch v.Code {
		case "empty bytes":
		case "not gzip":
			code = []byte("nope")
		default:
			mode, err := strconv.ParseInt(v.Mode, 8, 64)
			if err != nil {
				t.Fatal(err)
			}
			code = archive(t, mode, v.Names...)
		}
		cds := BuildCDS(peer.ChaincodeSpec_Type(peer.ChaincodeSpec_Type_value[v.Type]), &peer.ChaincodeID{Name: "x"}, nil, code)
		got := ""
		if err := CheckCode(cds); err != nil {
			got = err.Error()
		}
		if got != v.Error {
			t.Errorf("%+v: got %q", v, got)
		}
	}
	if err := CheckCode(&peer.ChaincodeDeploymentSpec{}); err == nil || err.Error() != "Unknown chaincodeType: UNDEFINED" {
		t.Error(err)
	}
}

func archive(t testing.TB, mode int64, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	gz.Close()
	return b.Bytes()
}

func TestMetadataVectors(t *testing.T) {
	t.Parallel()
	for _, v := range readJSON[[]struct{ Path, Content, Error string }](t, "metadata_files.json") {
		got := ""
		if err := CheckMetadataFile(v.Path, []byte(v.Content)); err != nil {
			got = err.Error()
		}
		if got != v.Error {
			t.Errorf("%s %s:\n got %s\nwant %s", v.Path, v.Content, got, v.Error)
		}
	}
}

// TestStateDBFilesAreBounded: a small archive of very many empty files is
// refused before it fills the memory.
func TestStateDBFilesAreBounded(t *testing.T) {
	t.Parallel()
	names := make([]string, maxMetadata/metadataCost)
	for i := range names {
		names[i] = "META-INF/statedb/couchdb/indexes/" + strconv.Itoa(i) + ".json"
	}
	code := func(n int) *peer.ChaincodeDeploymentSpec {
		return BuildCDS(peer.ChaincodeSpec_GOLANG, &peer.ChaincodeID{Name: "x"}, nil, archive(t, 0o100644, names[:n]...))
	}
	if files, err := StateDBFiles(code(10)); err != nil || len(files) != 10 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if _, err := StateDBFiles(code(len(names))); err == nil || !strings.HasPrefix(err.Error(), "metadata files exceed ") {
		t.Errorf("got %v", err)
	}
}

type signer string

func (s signer) Serialize() []byte               { return []byte(s) }
func (s signer) Sign(msg []byte) ([]byte, error) { return append([]byte("signed:"), msg...), nil }

func TestBuildSigned(t *testing.T) {
	t.Parallel()
	cds := readPackage(t, "go_simple_1.0.cds")
	if _, err := BuildSigned(cds, nil, nil); err == nil || err.Error() != "instantiation policy cannot be nil for chaincode (simple:1.0)" {
		t.Error(err)
	}
	plain, err := BuildSigned(cds, []byte("policy"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddOwner(protoutil.Marshal(plain), signer("a")); err == nil || err.Error() != "invalid signed deployment spec" {
		t.Error(err)
	}
	one, err := BuildSigned(cds, []byte("policy"), signer("a"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := AddOwner(protoutil.Marshal(one), signer("b"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(protoutil.Marshal(two))
	if err != nil {
		t.Fatal(err)
	}
	if p.Kind() != KindSignedCDS || len(p.Owners()) != 2 || !bytes.Equal(p.SpecBytes(), cds) {
		t.Errorf("kind %d, owners %v", p.Kind(), p.Owners())
	}
	if want := "signed:" + string(cds) + "policyb"; string(p.Owners()[1].Signature) != want {
		t.Error("owner signs something else than cds, policy, endorser")
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "chaincodes")
	s, err := OpenStore(StoreConfig{Dir: dir, Log: flog.ForTest(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"go_vec_1.0.cds", "go_simple_2.0_signed2.scds", "node_nodecc_0.1.2.cds"} {
		p, err := Parse(readPackage(t, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Save(p); err != nil {
			t.Fatal(err)
		}
		want := "chaincode " + filepath.Join(dir, p.Name()+"."+p.Version()) + " exists"
		if err := s.Save(p); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		back, err := s.Load(p.Name(), p.Version())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Raw(), p.Raw()) {
			t.Error("the file differs from what was installed")
		}
	}
	// Neither a renamed file nor a stray one is listed.
	if err := os.WriteFile(filepath.Join(dir, "other.1.0"), readPackage(t, "go_vec_1.0.cds"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stray.1"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list {
		names = append(names, p.Name()+"."+p.Version())
	}
	if diff := cmp.Diff([]string{"nodecc.0.1.2", "simple.2.0", "vec.1.0"}, names); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"../x", "", "a/b"} {
		if _, err := s.Load(name, "1"); err == nil {
			t.Errorf("loaded %q", name)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, tempDir))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v %v", left, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(readPackage(f, "go_simple_1.0.cds"))
	f.Add(readPackage(f, "go_simple_2.0_signed2.scds"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Parse(raw)
		if err != nil {
			return
		}
		if len(p.ID()) == 0 || len(p.Data()) == 0 {
			t.Error("package without hashes")
		}
		_ = CheckCode(p.Spec())
		files, _ := StateDBFiles(p.Spec())
		for _, m := range files {
			_ = CheckMetadataFile(m.Name, m.Content)
		}
	})
}

func FuzzChaincodeData(f *testing.F) {
	f.Add((&ChaincodeData{Name: "a", Version: "1", Policy: []byte("p")}).Marshal())
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ParseChaincodeData(raw)
		if err != nil {
			return
		}
		again, err := ParseChaincodeData(d.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.Marshal(), again.Marshal()) {
			t.Error("encoding is not stable")
		}
		_ = proto.Unmarshal(raw, &peer.ChaincodeData{})
	})
}
