package profile

import "time"

// File is the content of configtx.yaml, with defaults filled in and paths made
// absolute (IDENTITY-CONFIG §8.1).
type File struct {
	Profiles      map[string]*Profile
	Organizations []*Organization
	Channel       *Profile
	Application   *Application
	Orderer       *Orderer
	Capabilities  map[string]map[string]bool
	Resources     *Resources
}

// Profile describes a channel or, with Consortiums, a system channel.
type Profile struct {
	Consortium   string
	Application  *Application
	Orderer      *Orderer
	Consortiums  map[string]*Consortium
	Capabilities map[string]bool
	Policies     map[string]*Policy
}

// Policy is a policy as text; Type is Signature or ImplicitMeta.
type Policy struct {
	Type string
	Rule string
}

// Consortium is a set of organizations that may create channels.
type Consortium struct {
	Organizations []*Organization
}

// Application describes the application section of a channel.
type Application struct {
	Organizations []*Organization
	Capabilities  map[string]bool
	Resources     *Resources
	Policies      map[string]*Policy
	ACLs          map[string]string
}

// Resources is accepted and ignored, as in the reference.
type Resources struct {
	DefaultModPolicy string
}

// Organization describes one organization.
type Organization struct {
	Name             string
	ID               string
	MSPDir           string
	MSPType          string
	Policies         map[string]*Policy
	AnchorPeers      []*AnchorPeer
	OrdererEndpoints []string
	AdminPrincipal   string
}

// AnchorPeer is the address of a peer that other organizations' peers contact.
type AnchorPeer struct {
	Host string
	Port int
}

// Orderer describes the ordering service.
type Orderer struct {
	OrdererType   string
	Addresses     []string
	BatchTimeout  time.Duration
	BatchSize     BatchSize
	Kafka         Kafka
	EtcdRaft      *EtcdRaft
	Organizations []*Organization
	MaxChannels   uint64
	Capabilities  map[string]bool
	Policies      map[string]*Policy
}

// BatchSize limits blocks.
type BatchSize struct {
	MaxMessageCount   uint32
	AbsoluteMaxBytes  uint32
	PreferredMaxBytes uint32
}

// Kafka holds the brokers of an ordering service of type kafka.
type Kafka struct {
	Brokers []string
}

// EtcdRaft holds the nodes and settings of an ordering service of type
// etcdraft.
type EtcdRaft struct {
	Consenters []*Consenter
	Options    *RaftOptions
}

// Consenter is one node of a raft cluster; the certificates are paths.
type Consenter struct {
	Host          string
	Port          uint32
	ClientTLSCert string
	ServerTLSCert string
}

// RaftOptions are the settings of a raft cluster.
type RaftOptions struct {
	TickInterval         string
	ElectionTick         uint32
	HeartbeatTick        uint32
	MaxInflightBlocks    uint32
	SnapshotIntervalSize uint32
}
