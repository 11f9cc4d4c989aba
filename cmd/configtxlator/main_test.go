package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func config(t testing.TB) *common.Config {
	t.Helper()
	block := &common.Block{}
	if err := proto.Unmarshal(unzip(t, "standalone.block"), block); err != nil {
		t.Fatal(err)
	}
	_, env, err := chanconfig.ConfigOfBlock(block)
	if err != nil {
		t.Fatal(err)
	}
	return env.Config
}

// prefixes of error texts up to the first type name, which say what was done.
func stage(text string) string {
	text = strings.TrimPrefix(text, "configtxlator: error: Error decoding: ")
	for _, s := range []string{"error decoding input: ", "error encoding output: ", "error unmarshaling: ", "error marshaling: ", "message of type "} {
		if strings.HasPrefix(text, s) {
			return s
		}
	}
	return text
}

func TestCommands(t *testing.T) {
	t.Parallel()
	var v struct {
		Cases []struct {
			Op, Name, Type, Input, Output, Error string
			InputB64                             []byte `json:"input_b64"`
		}
	}
	if err := json.Unmarshal(unzip(t, "cases.json"), &v); err != nil {
		t.Fatal(err)
	}
	for _, tc := range v.Cases {
		var out bytes.Buffer
		var err error
		if tc.Op == "decode" {
			err = decodeProto(tc.Type, bytes.NewReader(tc.InputB64), &out)
		} else {
			err = encodeProto(tc.Type, strings.NewReader(tc.Input), &out)
		}
		switch {
		case tc.Error == "" && err != nil:
			t.Errorf("%s %s: %v", tc.Op, tc.Name, err)
		case tc.Error == "" && tc.Op == "decode" && out.String() != tc.Output:
			t.Errorf("%s: got %s", tc.Name, out.String())
		case strings.HasPrefix(tc.Error, "REFERENCE CRASHES"):
			if err == nil {
				t.Errorf("%s: no error", tc.Name)
			}
		case tc.Error != "" && (err == nil || stage(err.Error()) != stage(tc.Error)):
			t.Errorf("%s:\n got %v\nwant %s", tc.Name, err, tc.Error)
		}
	}
}

func file(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestComputeUpdate(t *testing.T) {
	t.Parallel()
	from := config(t)
	to := proto.CloneOf(from)
	delete(to.ChannelGroup.Groups["Application"].Groups, "Org2")
	var out bytes.Buffer
	if err := computeUpdate(file(t, protoutil.Marshal(from)), file(t, protoutil.Marshal(to)), "ch", &out); err != nil {
		t.Fatal(err)
	}
	update := &common.ConfigUpdate{}
	if err := proto.Unmarshal(out.Bytes(), update); err != nil || update.ChannelId != "ch" || update.WriteSet.Groups["Application"].Version != 1 {
		t.Errorf("%v %v", update, err)
	}
	for want, files := range map[string][2]*os.File{
		"error reading original config: invalid argument":                                            {nil, nil},
		"error reading updated config: invalid argument":                                             {file(t, nil), nil},
		"error unmarshaling original config: ":                                                       {file(t, []byte{7}), nil},
		"error computing config update: no differences detected between original and updated config": {file(t, protoutil.Marshal(from)), file(t, protoutil.Marshal(from))},
		"error computing config update: no channel group included for original config":               {file(t, nil), file(t, nil)},
	} {
		if err := computeUpdate(files[0], files[1], "ch", io.Discard); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
}

func request(t *testing.T, h http.Handler, method, path string, body []byte, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// form is the body of a multipart request.
func form(t *testing.T, files map[string][]byte, channel string) ([]byte, http.Header) {
	t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	for name, content := range files {
		f, err := m.CreateFormFile(name, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if channel != "" {
		if err := m.WriteField("channel", channel); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return body.Bytes(), http.Header{"Content-Type": {m.FormDataContentType()}}
}

func TestREST(t *testing.T) {
	t.Parallel()
	h := newServer(flog.Nop(), nil).handler()
	consortium := protoutil.Marshal(&common.Consortium{Name: "C"})
	const text = "{\n\t\"name\": \"C\"\n}\n"
	for _, tc := range []struct {
		method, path string
		body         []byte
		code         int
		want         string // start of the answer
	}{
		{"POST", "/protolator/decode/common.Consortium", consortium, 200, text},
		{"POST", "/protolator/encode/common.Consortium", []byte(text), 200, string(consortium)},
		{"POST", "/protolator/decode/common.Consortium/", consortium, 301, ""},
		{"GET", "/protolator/decode/common.Consortium", nil, 405, ""},
		{"POST", "/protolator/decode/common.Foo", nil, 404, "message name not found\n"},
		{"POST", "/protolator/encode/Foo", nil, 404, "message name not found\n"},
		{"POST", "/protolator/decode/", nil, 404, ""},
		{"POST", "/nope", nil, 404, ""},
		{"POST", "/protolator/encode/common.Consortium", []byte(`{"nam":1}`), 400, "*common.Consortium: unknown field \"nam\" in common.Consortium\n"},
		{"POST", "/protolator/decode/common.Policy", protoutil.Marshal(&common.Policy{Value: []byte("x")}), 400, "*common.Policy: error in PopulateTo for field value"},
		{"POST", "/protolator/decode/common.Consortium", []byte{7}, 400, ""},
		{"POST", "/configtxlator/compute/update-from-configs", nil, 400, "Error with field 'original': error reading field bytes: "},
		{"POST", "/configtxlator/config/verify", []byte{7}, 400, "Error unmarshaling data to common.Config': "},
		{"POST", "/configtxlator/config/verify", nil, 200, `{"general_errors":["config must contain a channel group"],"element_warnings":null,"element_errors":null}`},
	} {
		w := request(t, h, tc.method, tc.path, tc.body, nil)
		if w.Code != tc.code || !strings.HasPrefix(w.Body.String(), tc.want) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
}

func TestRESTCompute(t *testing.T) {
	t.Parallel()
	h := newServer(flog.Nop(), nil).handler()
	from := config(t)
	to := proto.CloneOf(from)
	to.ChannelGroup.ModPolicy = "X"
	raw, changed := protoutil.Marshal(from), protoutil.Marshal(to)
	const path = "/configtxlator/compute/update-from-configs"

	for _, channel := range []string{"ch", ""} {
		body, header := form(t, map[string][]byte{"original": raw, "updated": changed}, channel)
		w := request(t, h, "POST", path, body, header)
		update := &common.ConfigUpdate{}
		if err := proto.Unmarshal(w.Body.Bytes(), update); err != nil || w.Code != 200 || update.ChannelId != channel || update.WriteSet.ModPolicy != "X" {
			t.Errorf("channel %q: %d %v %v", channel, w.Code, update, err)
		}
	}
	for want, files := range map[string]map[string][]byte{
		"Error with field 'original': error reading field bytes: ":                              {"updated": raw},
		"Error with field 'updated': error reading field bytes: ":                               {"original": raw},
		"Error with field 'updated': error unmarshaling field bytes: ":                          {"original": raw, "updated": {7}},
		"Error computing update: no differences detected between original and updated config\n": {"original": raw, "updated": raw},
	} {
		body, header := form(t, files, "")
		if w := request(t, h, "POST", path, body, header); w.Code != 400 || !strings.HasPrefix(w.Body.String(), want) {
			t.Errorf("%d\n got %s\nwant %s", w.Code, w.Body, want)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	if got := string(verify(config(t))); got != `{"general_errors":null,"element_warnings":null,"element_errors":null}` {
		t.Error(got)
	}
	set := func(c *common.Config, p *common.SignaturePolicyEnvelope) {
		c.ChannelGroup.Groups["Application"].Policies["Foo"] = &common.ConfigPolicy{
			ModPolicy: "Admins", Policy: &common.Policy{Type: int32(common.Policy_SIGNATURE), Value: protoutil.Marshal(p)},
		}
	}
	c := config(t)
	p := policy.SignedByAnyMember([]string{"Org1MSP", "NopeMSP"})
	ou := protoutil.Marshal(&msp.OrganizationUnit{MspIdentifier: "OtherMSP"})
	p.Identities = append(p.Identities,
		&msp.MSPPrincipal{PrincipalClassification: msp.MSPPrincipal_ORGANIZATION_UNIT, Principal: ou},
		&msp.MSPPrincipal{PrincipalClassification: msp.MSPPrincipal_IDENTITY, Principal: []byte{7}})
	set(c, p)
	var f findings
	if err := json.Unmarshal(verify(c), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.GeneralErrors)+len(f.ElementErrors) != 0 || len(f.ElementWarnings) != 2 {
		t.Fatalf("%+v", f)
	}
	for i, id := range []string{"NopeMSP", "OtherMSP"} {
		w := f.ElementWarnings[i]
		if w.Path != ".groups.Application.policies.Foo" || !strings.HasSuffix(w.Message, "refers to MSP ID '"+id+"', which is not an MSP in the network") {
			t.Errorf("%+v", w)
		}
	}
	bad := policy.SignedByMSPMember("Org1MSP")
	bad.Identities[0].Principal = []byte{7}
	set(c, bad)
	f = findings{}
	if err := json.Unmarshal(verify(c), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.ElementErrors) != 1 || !strings.HasPrefix(f.ElementErrors[0].Message, "value of identities array at index 0 is of type ROLE, but could not be unmarshaled to msp.MSPRole: ") {
		t.Errorf("%+v", f)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	preflight := func(origin, method, headers string) http.Header {
		h := http.Header{"Origin": {origin}}
		if method != "" {
			h["Access-Control-Request-Method"] = []string{method}
		}
		if headers != "" {
			h["Access-Control-Request-Headers"] = []string{headers}
		}
		return h
	}
	const path = "/protolator/decode/common.Consortium"
	for _, tc := range []struct {
		name    string
		origins []string
		method  string
		header  http.Header
		code    int
		allowed string
	}{
		{"off", nil, "POST", http.Header{"Origin": {"http://a"}}, 200, ""},
		{"allowed", []string{"http://a"}, "POST", http.Header{"Origin": {"http://a"}}, 200, "http://a"},
		{"star", []string{"*"}, "POST", http.Header{"Origin": {"http://a"}}, 200, "*"},
		{"other origin", []string{"http://b"}, "POST", http.Header{"Origin": {"http://a"}}, 200, ""},
		{"preflight", []string{"http://a"}, "OPTIONS", preflight("http://a", "POST", "content-type"), 200, "http://a"},
		{"preflight of other origin", []string{"http://b"}, "OPTIONS", preflight("http://a", "POST", ""), 200, ""},
		{"preflight without method", []string{"*"}, "OPTIONS", preflight("http://a", "", ""), 400, ""},
		{"preflight for DELETE", []string{"*"}, "OPTIONS", preflight("http://a", "DELETE", ""), 405, ""},
		{"preflight with other header", []string{"*"}, "OPTIONS", preflight("http://a", "POST", "X-Y"), 403, ""},
	} {
		w := request(t, newServer(flog.Nop(), tc.origins).handler(), tc.method, path, nil, tc.header)
		if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != tc.code || got != tc.allowed {
			t.Errorf("%s: %d %q", tc.name, w.Code, got)
		}
	}
}

func TestServerStops(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- newServer(flog.Nop(), nil).run(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/nope")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
