package support

import (
	"context"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

// Config is what Support is made of. Zero durations and limits take the
// reference's defaults.
type Config struct {
	PeerAddress     string        // the endpoint told to chaincodes, see Endpoint
	TLS             *Authority    // nil: the listener is plaintext
	DevMode         bool          // chaincode.mode dev: unsolicited registrations are accepted
	StartupTimeout  time.Duration // chaincode.startuptimeout; at least 5 s
	ExecuteTimeout  time.Duration // chaincode.executetimeout; below 1 s means 30 s
	KeepAlive       time.Duration // chaincode.keepalive; 0 = off
	TotalQueryLimit int           // ledger.state.totalQueryLimit; 0 = 10000
	Environment     runtime.Environment
	DefaultLogLevel string // the peer's, for invalid levels in Environment; empty = info

	System    map[string]System // the system chaincodes by name
	Lifecycle Lifecycle
	Packages  Packages
	Access    Access
	Channels  Channels
	Runtime   Runtime

	Log     *flog.Logger
	Metrics metrics.Provider
}

// Definition is what launching needs of a chaincode definition.
type Definition struct {
	Name, Version, Path string
	Type                peer.ChaincodeSpec_Type
}

// CName returns NAME:VERSION, the name chaincodes register under.
func (d *Definition) CName() string { return d.Name + ":" + d.Version }

// Lifecycle finds chaincode definitions. It is implemented above this room.
type Lifecycle interface {
	// ContainerInfo describes the installed package of the chaincode defined on
	// the channel, fingerprint checked (CHAINCODE §7.1). The definition is read
	// through sim, which has read it before: with another look at the state the
	// transaction could wait for a commit that waits for sim. Errors follow
	// "failed to get chaincode container info for CNAME: ", e.g. "could not get
	// chaincode code: …".
	ContainerInfo(name string, sim stream.Simulator) (*Definition, error)
	// Callee reads the definition of the target of a chaincode-to-chaincode
	// call through sim (so that the read is recorded) and checks the
	// instantiation policy against the installed package (CHAINCODE §3.7.6,
	// §7.6). Unknown: "chaincode NAME not found".
	Callee(channelID, name string, sim stream.Simulator) (*Definition, error)
}

// Packages gives the installed packages; *packaging.Store is one.
type Packages interface {
	Load(name, version string) (*packaging.Package, error)
}

// Access checks ACL resources.
type Access interface {
	// CheckACL fails when the signed proposal does not satisfy the policy of
	// the resource on the channel.
	CheckACL(resource, channelID string, sp *peer.SignedProposal) error
}

// Channels gives what calls need of the peer's channels.
type Channels interface {
	// Simulator opens a simulator and history reader on another channel for a
	// read-only call of a transaction that has caller's simulator; done releases
	// them. Unknown channel: "failed to find ledger for channel: CH".
	Simulator(channelID, txID string, caller stream.Simulator) (sim stream.Simulator, history stream.HistoryReader, done func(), err error)
	// KeyLevelEndorsement fails, with the reference's text (CHAINCODE §3.5),
	// when the channel lacks the capability.
	KeyLevelEndorsement(channelID string) error
}

// Runtime starts chaincodes.
type Runtime interface {
	// Start builds what is needed and starts the chaincode. It returns once
	// the chaincode runs; ctx bounds only the start.
	Start(ctx context.Context, spec *runtime.Spec) (runtime.Instance, error)
}
