package runtime

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

func TestLaunchVectors(t *testing.T) {
	t.Parallel()
	var vectors []struct {
		Args, Env   []string
		Error, Type string
		Files       map[string]string
		TLS         bool
	}
	readJSON(t, "launch.json", &vectors)
	for _, v := range vectors {
		s := &Spec{
			Name: "mycc", Version: "1.0", Type: peer.ChaincodeSpec_Type(peer.ChaincodeSpec_Type_value[v.Type]),
			PeerAddress: "peer0.org1.example.com:7052",
			Environment: Environment{
				LogLevel: "info", ShimLogLevel: "warning",
				LogFormat: "%{color}%{time:2006-01-02 15:04:05.000 MST} [%{module}] %{shortfunc} -> %{level:.4s} %{id:03x}%{color:reset} %{message}",
			},
		}
		args, err := s.Args()
		if err != nil || v.Error != "" {
			if err == nil || err.Error() != v.Error {
				t.Errorf("%s: %v, want %s", v.Type, err, v.Error)
			}
			continue
		}
		if diff := cmp.Diff(v.Args, args); diff != "" {
			t.Error(diff)
		}
		want := map[string]string{}
		if v.TLS {
			s.TLS = &TLS{ClientKey: []byte("KEY"), ClientCert: []byte("CERT"), RootCert: []byte("ROOT")}
			p := ContainerPaths()
			want = map[string]string{
				p.Key: base64.StdEncoding.EncodeToString([]byte("KEY")), p.Cert: base64.StdEncoding.EncodeToString([]byte("CERT")), p.Root: "ROOT",
			}
		}
		if diff := cmp.Diff(v.Env, s.Env(ContainerPaths())); diff != "" {
			t.Error(diff)
		}
		got := map[string]string{}
		for path, content := range s.Files(ContainerPaths()) {
			got[path] = string(content)
			if _, ok := v.Files[path]; !ok {
				t.Errorf("file %s is not the reference's", path)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNameVectors(t *testing.T) {
	t.Parallel()
	var vectors []struct {
		NetworkID                              string `json:"network_id"`
		PeerID                                 string `json:"peer_id"`
		Name, Version, Container, Image, Error string
	}
	readJSON(t, "docker_names.json", &vectors)
	for _, v := range vectors {
		n := Names{NetworkID: v.NetworkID, PeerID: v.PeerID}
		image, err := n.Image(v.Name, v.Version)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if n.Container(v.Name, v.Version) != v.Container || image != v.Image || text != v.Error {
			t.Errorf("%+v: got %q %q %q", v, n.Container(v.Name, v.Version), image, text)
		}
	}
}
