package endorser_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// world is an endorser with everything around it faked except identities.
type world struct {
	user   *testpki.Identity
	config endorser.Config

	response *peer.Response
	event    *peer.ChaincodeEvent
	execErr  error
	initErr  error
	input    *peer.ChaincodeInput // as the chaincode got it

	known   map[string]bool // transactions on the ledger
	private *rwset.TxPvtReadWriteSet
	state   map[string][]byte
	open    int // simulators not yet released
	// simulators are those that were opened, moves whether they are overtaken.
	simulators []string
	moves      bool
	refuse     error
	panics     bool

	distributed *transientstore.TxPvtReadWriteSetWithConfigInfo
}

func newWorld(t testing.TB) *world {
	t.Helper()
	org := testpki.NewOrg(t, "Org1MSP")
	w := &world{
		user:     org.Client("user"),
		response: &peer.Response{Status: 200, Payload: []byte("fine")},
		known:    map[string]bool{}, state: map[string][]byte{},
	}
	dir := t.TempDir()
	org.WriteMSP(dir, org.Peer("peer"))
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP"})
	must(t, err)
	plugin, err := endorser.NewPlugin(endorser.DefaultEndorsement, local.SigningIdentity())
	must(t, err)
	w.config = endorser.Config{
		Identities: func(id string) (msp.Deserializer, bool) { return local, id != "unknown" },
		Ledger:     func(id string) (endorser.Ledger, bool) { return fakeLedger{w}, id != "closed" },
		Access:     fakeAccess{w}, Executor: fakeExecutor{w}, Lifecycle: fakeLifecycle{w},
		Packages: fakePackages{}, Private: fakePrivate{w},
		Plugins:       map[string]endorser.Plugin{"escc": plugin},
		SystemVersion: "1.4.12",
	}
	return w
}

type fakeAccess struct{ w *world }

func (a fakeAccess) Check(resource, channelID string, _ policy.SignedData) error {
	if resource != "peer/Propose" {
		return fmt.Errorf("asked for %s", resource)
	}
	return a.w.refuse
}

type fakeLifecycle struct{ w *world }

func (l fakeLifecycle) Definition(name string, state interface {
	GetState(ns, key string) ([]byte, error)
},
) (*packaging.ChaincodeData, error) {
	if name == "nocc" {
		return nil, errors.New("chaincode nocc not found")
	}
	escc := "escc"
	if name == "odd" {
		escc = "oddplugin"
	}
	return &packaging.ChaincodeData{Name: name, Version: "7", Escc: escc}, nil
}

func (l fakeLifecycle) CheckInstalled(cd *packaging.ChaincodeData) error {
	if cd.Name == "elsewhere" {
		return errors.New("cannot retrieve package for chaincode elsewhere/7, error x")
	}
	return nil
}

type fakePackages struct{}

func (fakePackages) Load(name, version string) (*packaging.Package, error) {
	if version != "1" {
		return nil, errors.New("no such file")
	}
	return packaging.Parse(protoutil.Marshal(deploymentSpec(name, version)))
}

func deploymentSpec(name, version string) *peer.ChaincodeDeploymentSpec {
	return &peer.ChaincodeDeploymentSpec{ChaincodeSpec: &peer.ChaincodeSpec{
		Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: name, Version: version}, Input: &peer.ChaincodeInput{},
	}}
}

type fakeExecutor struct{ w *world }

func (x fakeExecutor) Execute(_ context.Context, p *support.TxParams, name, version string, in *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	x.w.input = in
	if x.w.panics {
		panic("chaincode")
	}
	if x.w.execErr != nil {
		return nil, nil, x.w.execErr
	}
	return x.w.response, x.w.event, nil
}

func (x fakeExecutor) ExecuteInit(_ context.Context, _ *support.TxParams, def *support.Definition, _ *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	return &peer.Response{Status: 500}, nil, x.w.initErr
}

func (fakeExecutor) IsSystem(name string) bool            { return strings.HasSuffix(name, "scc") }
func (fakeExecutor) InvokableByProposal(name string) bool { return name != "vscc" }

type fakeLedger struct{ w *world }

func (l fakeLedger) HasTx(id string) (bool, error) { return l.w.known[id], nil }
func (l fakeLedger) Height() uint64                { return 9 }

func (l fakeLedger) Simulate(string) (endorser.Simulator, error) { return l.simulator("free") }

func (l fakeLedger) SimulateHeld(string) (endorser.Simulator, error) { return l.simulator("held") }

func (l fakeLedger) simulator(kind string) (endorser.Simulator, error) {
	l.w.open++
	l.w.simulators = append(l.w.simulators, fmt.Sprintf("%s, %d open", kind, l.w.open))
	return &fakeSimulator{w: l.w, held: kind == "held"}, nil
}

func (l fakeLedger) History() (stream.HistoryReader, func()) { return nil, func() {} }

type fakeSimulator struct {
	stream.Simulator
	w          *world
	held, done bool
}

func (s *fakeSimulator) Moved() bool { return s.w.moves && !s.held }

func (s *fakeSimulator) GetState(ns, key string) ([]byte, error) { return s.w.state[ns+"/"+key], nil }

func (s *fakeSimulator) Done() {
	if !s.done {
		s.done = true
		s.w.open--
	}
}

func (s *fakeSimulator) Results() (*ledger.SimulationResults, error) {
	return &ledger.SimulationResults{Public: []byte("results"), Private: s.w.private}, nil
}

type fakePrivate struct{ w *world }

func (p fakePrivate) Distribute(_ context.Context, channelID, txID string, set *transientstore.TxPvtReadWriteSetWithConfigInfo) error {
	if p.w.open != 0 {
		return errors.New("the state is held while other peers are asked")
	}
	p.w.distributed = set
	return nil
}

func (w *world) sign(t testing.TB, channel string, spec *peer.ChaincodeSpec) *peer.SignedProposal {
	t.Helper()
	n := &network{people: map[string]*testpki.Identity{"user": w.user}}
	return n.proposal(t, call{who: "user", channel: channel, spec: spec})
}

func spec(name string, in ...string) *peer.ChaincodeSpec {
	return &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: name}, Input: &peer.ChaincodeInput{Args: args(in...)}}
}

func (w *world) send(t testing.TB, channel string, s *peer.ChaincodeSpec) (*peer.ProposalResponse, error) {
	t.Helper()
	return endorser.New(w.config).ProcessProposal(context.Background(), w.sign(t, channel, s))
}

func TestEndorsementIsSignedOverPayloadAndEndorser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.event = &peer.ChaincodeEvent{ChaincodeId: "cc", TxId: "x", EventName: "e"}
	sp := w.sign(t, "ch", spec("cc", "f"))
	resp, err := endorser.New(w.config).ProcessProposal(context.Background(), sp)
	must(t, err)
	if resp.Version != 1 || resp.Timestamp != nil || !proto.Equal(resp.Response, w.response) {
		t.Errorf("got %v", resp)
	}
	local, _ := w.config.Identities("")
	id, err := local.DeserializeIdentity(resp.Endorsement.Endorser)
	must(t, err)
	if err := id.Verify(append(bytes.Clone(resp.Payload), resp.Endorsement.Endorser...), resp.Endorsement.Signature); err != nil {
		t.Error(err)
	}
	prp, action := actionOf(t, resp.Payload)
	hash, err := proposal.Parse(sp).Hash()
	must(t, err)
	if !bytes.Equal(prp.ProposalHash, hash) || string(action.Results) != "results" || !proto.Equal(action.Response, w.response) {
		t.Errorf("got %v %v", prp, action)
	}
	if action.ChaincodeId.Name != "cc" || action.ChaincodeId.Version != "7" || !bytes.Equal(action.Events, protoutil.Marshal(w.event)) {
		t.Errorf("got %v", action)
	}
	if w.open != 0 {
		t.Errorf("%d simulators left open", w.open)
	}
}

func TestStatusThresholds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		channel           string
		status            int32
		payload, endorsed bool
	}{
		{"ch", 0, true, true},
		{"ch", 399, true, true},
		{"ch", 400, false, false},
		{"ch", 499, false, false},
		{"ch", 500, true, false},
		{"", 200, false, false},
		{"", 450, false, false},
		{"", 500, true, false},
	} {
		w := newWorld(t)
		w.response = &peer.Response{Status: tc.status, Message: "m"}
		w.event = &peer.ChaincodeEvent{EventName: "e"}
		resp, err := w.send(t, tc.channel, spec("qscc", "f"))
		must(t, err)
		if (resp.Payload != nil) != tc.payload || (resp.Endorsement != nil) != tc.endorsed || resp.Response.Status != tc.status {
			t.Errorf("%v: got %v", tc, resp)
		}
		if (resp.Version == 1) != tc.endorsed {
			t.Errorf("%v: version %d", tc, resp.Version)
		}
		if _, action := actionOf(t, resp.Payload); tc.status == 500 && (len(action.Events) > 0 || action.ChaincodeId.Version != "") {
			t.Errorf("%v: action %v", tc, action)
		}
	}
}

func TestRefusalsBeforeSimulationAreErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sp := w.sign(t, "ch", spec("cc", "f"))
	w.known[proposal.Parse(sp).TxID()] = true
	_, err := endorser.New(w.config).ProcessProposal(context.Background(), sp)
	want := fmt.Sprintf("duplicate transaction found [%s]. Creator [%s]", proposal.Parse(sp).TxID(), hex.EncodeToString(w.user.Serialize()))
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := w.send(t, "ch", spec("vscc")); err == nil || err.Error() != "chaincode vscc cannot be invoked through a proposal" {
		t.Errorf("got %v", err)
	}
	if _, err := w.send(t, "unknown", spec("cc")); err == nil || err.Error() != "access denied: channel [unknown] creator org [Org1MSP]" {
		t.Errorf("got %v", err)
	}
	w.refuse = errors.New("no")
	if _, err := w.send(t, "ch", spec("cc")); !errors.Is(err, w.refuse) {
		t.Errorf("got %v", err)
	}
	if _, err := w.send(t, "ch", spec("lscc")); err != nil {
		t.Errorf("system chaincodes check for themselves: %v", err)
	}
}

func TestFailuresOfTheSimulationAreAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, channel string
		spec          *peer.ChaincodeSpec
		change        func(*world)
		want          string
	}{
		{"no channel", "closed", spec("cc"), nil, "Channel does not exist: closed"},
		{"not instantiated", "ch", spec("nocc"), nil, "make sure the chaincode nocc has been successfully instantiated and try again: chaincode nocc not found"},
		{"channel-less", "", spec("cc"), nil, "make sure the chaincode cc has been successfully instantiated and try again: could not get definition for chaincode cc without a ledger context\n"},
		{"not installed", "ch", spec("elsewhere"), nil, "cannot retrieve package for chaincode elsewhere/7, error x"},
		{"fails", "ch", spec("cc"), func(w *world) { w.execErr = errors.New("transaction returned with failure: \xff") }, "transaction returned with failure: \uFFFD"},
		{"no response", "ch", spec("cc"), func(w *world) { w.response = nil }, "nil response from transaction "},
		{"plugin", "ch", spec("odd"), nil, "plugin with name oddplugin could not be used: plugin with name oddplugin wasn't found"},
		{"no input", "ch", &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: "cc"}}, nil, proposal.ErrNoInput.Error()},
		{"private deployment", "ch", spec("lscc", "x"), func(w *world) { w.private = &rwset.TxPvtReadWriteSet{} }, "Private data is forbidden to be used in instantiate"},
		{"private without collections", "ch", spec("cc"), func(w *world) {
			w.private = &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{Namespace: "cc"}}}
		}, "failed to obtain collections config: "},
		{"spec garbage", "ch", spec("lscc", "deploy", "ch", "\xff"), nil, "error unmarshaling ChaincodeDeploymentSpec: "},
		{"spec empty", "ch", spec("lscc", "deploy", "ch", ""), nil, "invalid deployment spec"},
		{"package missing", "ch", spec("lscc", "upgrade", "ch", string(protoutil.Marshal(deploymentSpec("a", "2")))), nil, "cannot deploy a chaincode which is not installed: could not get chaincode from fs: no such file"},
		{"system deployment", "ch", spec("lscc", "deploy", "ch", string(protoutil.Marshal(deploymentSpec("qscc", "1")))), nil, "attempting to deploy a system chaincode qscc/ch"},
		{"init fails", "ch", spec("lscc", "deploy", "ch", string(protoutil.Marshal(deploymentSpec("a", "1")))), func(w *world) { w.initErr = errors.New("bad init") }, "bad init"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.change != nil {
				tc.change(w)
			}
			resp, err := w.send(t, tc.channel, tc.spec)
			must(t, err)
			if resp.Response.Status != 500 || !strings.HasPrefix(resp.Response.Message, tc.want) {
				t.Errorf("got %v, want %s", resp.Response, tc.want)
			}
			if resp.Payload != nil || resp.Endorsement != nil || resp.Version != 0 {
				t.Errorf("got %v", resp)
			}
			if w.open != 0 {
				t.Errorf("%d simulators left open", w.open)
			}
		})
	}
}

func TestDeploymentRunsInitWhateverItAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, err := w.send(t, "ch", spec("lscc", "deploy", "ch", string(protoutil.Marshal(deploymentSpec("a", "1")))))
	must(t, err)
	if resp.Endorsement == nil || resp.Response.Status != 200 {
		t.Errorf("got %v", resp)
	}
}

func TestDecorations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.Decorators = []endorser.Decorator{func(_ *peer.Proposal, in *peer.ChaincodeInput) *peer.ChaincodeInput {
		in.Decorations = map[string][]byte{"ours": nil}
		return in
	}}
	s := spec("cc", "f")
	s.Input.Decorations = map[string][]byte{"client's": []byte("x")}
	_, err := w.send(t, "ch", s)
	must(t, err)
	if _, ok := w.input.Decorations["ours"]; !ok || len(w.input.Decorations) != 1 {
		t.Errorf("decorations %v", w.input.Decorations)
	}
}

func TestPrivateDataIsDistributedWithItsCollections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	coll := func(name string) *peer.CollectionConfig {
		return &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: name},
		}}
	}
	w.state["lscc/cc~collection"] = protoutil.Marshal(&peer.CollectionConfigPackage{Config: []*peer.CollectionConfig{coll("a"), coll("b")}})
	w.private = &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
		Namespace: "cc", CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{{CollectionName: "b"}},
	}}}
	_, err := w.send(t, "ch", spec("cc", "f"))
	must(t, err)
	want := &transientstore.TxPvtReadWriteSetWithConfigInfo{
		EndorsedAt: 9, PvtRwset: w.private,
		CollectionConfigs: map[string]*peer.CollectionConfigPackage{"cc": {Config: []*peer.CollectionConfig{coll("b")}}},
	}
	if !proto.Equal(w.distributed, want) {
		t.Errorf("got %v", w.distributed)
	}
}

// TestStateIsReleasedWhateverHappens: with some state databases, a simulator
// that stays open ends all commits.
func TestStateIsReleasedWhateverHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.panics = true
	func() {
		defer func() { _ = recover() }()
		_, _ = w.send(t, "ch", spec("cc", "f"))
		t.Error("no panic")
	}()
	if w.open != 0 {
		t.Errorf("%d simulators left open", w.open)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	org := testpki.NewOrg(t, "Org1MSP")
	old := org.CA.Issue("old", nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	old.MSPID = "Org1MSP"
	expiry, err := endorser.NewFilter(endorser.ExpirationCheck, x509msp.ExpiresAtOf)
	must(t, err)
	w.config.Filters = []endorser.Filter{expiry}
	w.user = old
	for range 2 { // the second time from the cache
		if _, err := w.send(t, "ch", spec("cc")); err == nil || err.Error() != "identity expired" {
			t.Errorf("got %v", err)
		}
	}
	for what, raw := range map[string][]byte{
		"proposal":         {0xff},
		"header":           {0x0a, 1, 0xff},
		"signature header": {0x0a, 3, 0x12, 1, 0xff},
	} {
		_, err := endorser.New(w.config).ProcessProposal(context.Background(), &peer.SignedProposal{ProposalBytes: raw})
		if err == nil || !strings.HasPrefix(err.Error(), "failed parsing "+what+": ") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	w.config.Filters = []endorser.Filter{endorser.BlockWhile(func() bool { return true })}
	if _, err := w.send(t, "ch", spec("cc")); err == nil || err.Error() != "endorse requests are blocked while ledgers are being rebuilt" {
		t.Errorf("got %v", err)
	}
}

func TestUnknownHandlers(t *testing.T) {
	t.Parallel()
	_, err1 := endorser.NewFilter("x", nil)
	_, err2 := endorser.NewDecorator("x")
	_, err3 := endorser.NewPlugin("x", nil)
	for _, err := range []error{err1, err2, err3} {
		if err == nil || err.Error() != "Method x isn't a method of HandlerLibrary" {
			t.Errorf("got %v", err)
		}
	}
	if _, err := endorser.NewPlugin(endorser.DefaultEndorsement, nil); err == nil || err.Error() != "could not find SigningIdentityFetcher in dependencies" {
		t.Errorf("got %v", err)
	}
	if d, err := endorser.NewDecorator(endorser.DefaultDecorator); err != nil || d(nil, nil) != nil {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	got := counts{}
	w := newWorld(t)
	w.config.Metrics = got
	e := endorser.New(w.config)
	send := func(channel, name string) {
		_, _ = e.ProcessProposal(context.Background(), w.sign(t, channel, spec(name)))
	}
	send("ch", "cc")
	send("unknown", "cc")
	send("ch", "odd")
	w.response = &peer.Response{Status: 400}
	send("ch", "cc")
	w.refuse = errors.New("no")
	send("ch", "cc")
	for name, want := range map[string]int{
		"endorser_proposals_received":                 5,
		"endorser_successful_proposals":               1,
		"endorser_proposal_validation_failures":       1,
		"endorser_proposal_acl_failures,ch,cc:":       1,
		"endorser_endorsement_failures,ch,odd:,false": 1,
		"endorser_endorsement_failures,ch,cc:,true":   1,
		"endorser_proposal_duration,ch,cc:,true":      1,
		"endorser_proposal_duration,ch,cc:,false":     1,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// counts is a metrics provider: how often each counter or histogram was used, by
// name and label values.
type counts map[string]int

func (c counts) NewCounter(o metrics.CounterOpts) metrics.Counter {
	return series{c, o.Namespace + "_" + o.Name}
}

func (c counts) NewHistogram(o metrics.HistogramOpts) metrics.Histogram {
	return observed{series{c, o.Namespace + "_" + o.Name}}
}
func (c counts) NewGauge(metrics.GaugeOpts) metrics.Gauge { return nil }

type series struct {
	counts
	name string
}

func (s series) labelled(values []string) series {
	for i := 1; i < len(values); i += 2 {
		s.name += "," + values[i]
	}
	return s
}

func (s series) With(values ...string) metrics.Counter { return s.labelled(values) }
func (s series) Add(float64)                           { s.counts[s.name]++ }

type observed struct{ series }

func (o observed) With(values ...string) metrics.Histogram { return observed{o.labelled(values)} }
func (o observed) Observe(float64)                         { o.Add(1) }

// lines is a writer for logs.
type lines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	out := &lines{}
	logs, err := flog.New(out, "%{module} %{level} %{message}", "info")
	must(t, err)
	w := newWorld(t)
	w.config.Log = logs.Root()
	w.response = &peer.Response{Status: 500}
	sp := w.sign(t, "ch", spec("cc"))
	_, _ = endorser.New(w.config).ProcessProposal(context.Background(), sp)
	_, _ = endorser.New(w.config).ProcessProposal(context.Background(), w.sign(t, "unknown", spec("cc")))
	id := proposal.Parse(sp).TxID()
	for _, want := range []string{
		fmt.Sprintf("endorser INFO [ch][%s] Entry chaincode: name:\"cc\" \n", id[:8]),
		fmt.Sprintf("endorser INFO [ch][%s] Exit chaincode: name:\"cc\"  (0ms)\n", id[:8]),
		fmt.Sprintf("endorser ERROR [ch][%s] simulateProposal() resulted in chaincode name:\"cc\"  response status 500 for txid: %s\n", id[:8], id),
		"protoutils WARN channel [unknown]: ",
	} {
		if !strings.Contains(out.buf.String(), want) {
			t.Errorf("no line %q in\n%s", want, out.buf.String())
		}
	}
}

func FuzzProcessProposal(f *testing.F) {
	w := newWorld(f)
	for _, s := range []*peer.ChaincodeSpec{spec("cc", "f"), spec("lscc", "deploy", "ch", ""), spec("qscc")} {
		for _, channel := range []string{"", "ch"} {
			sp := w.sign(f, channel, s)
			f.Add(sp.ProposalBytes, sp.Signature)
		}
	}
	// Everybody is believed, so that the bytes get as far as they can.
	w.config.Identities = func(string) (msp.Deserializer, bool) { return credulous{}, true }
	expiry, err := endorser.NewFilter(endorser.ExpirationCheck, x509msp.ExpiresAtOf)
	must(f, err)
	w.config.Filters = []endorser.Filter{expiry}
	w.config.Log = flog.Nop()
	e := endorser.New(w.config)
	f.Fuzz(func(t *testing.T, raw, sig []byte) {
		resp, err := e.ProcessProposal(context.Background(), &peer.SignedProposal{ProposalBytes: raw, Signature: sig})
		if err == nil {
			if _, err := proto.Marshal(resp); err != nil {
				t.Error(err)
			}
		}
	})
}

type credulous struct{}

func (credulous) IsWellFormed([]byte) error { return nil }
func (credulous) DeserializeIdentity([]byte) (msp.Identity, error) {
	return believed{}, nil
}

type believed struct{ msp.Identity }

func (believed) Validate() error          { return nil }
func (believed) Verify(_, _ []byte) error { return nil }
