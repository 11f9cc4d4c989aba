package protolator

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// node is a message in its place: what its fields hold may depend on where it
// is, as with the groups of a channel's configuration.
type node struct {
	md   protoreflect.MessageDescriptor
	name string // the reference's Go type, for error texts

	group *groupKind            // md is common.ConfigGroup at a known position
	value protoreflect.FullName // md is common.ConfigValue with a value of this type …
	// … or of no known type, and why.
	valueErr error
	kvRWSet  bool // md is rwset.NsReadWriteSet of a KV data model
}

func plainNode(md protoreflect.MessageDescriptor) node { return node{md: md, name: goName(md)} }

// namedNode is the node of a message that is known to exist.
func namedNode(name protoreflect.FullName) node {
	md, ok := descriptor(name)
	if !ok {
		panic("no descriptor of " + string(name))
	}
	return plainNode(md)
}

// groupKind says what a group of the configuration tree may hold, by its
// position (IDENTITY-CONFIG §5, §9.2).
type groupKind struct {
	name      string // of the reference's Go types
	valueName string
	values    map[string]protoreflect.FullName
	badValue  string // text for other values; followed by ": " and the key
	noValues  string // text if no value at all is allowed
	sub       func(key string) (*groupKind, error)
}

func channelKind() *groupKind {
	return &groupKind{
		name: "common.DynamicChannelGroup", valueName: "common.DynamicChannelConfigValue",
		values: map[string]protoreflect.FullName{
			"HashingAlgorithm":          "common.HashingAlgorithm",
			"BlockDataHashingStructure": "common.BlockDataHashingStructure",
			"OrdererAddresses":          "common.OrdererAddresses",
			"Consortium":                "common.Consortium",
			"Capabilities":              "common.Capabilities",
		},
		badValue: "unknown Channel ConfigValue name",
		sub: func(key string) (*groupKind, error) {
			switch key {
			case "Orderer":
				return ordererKind(), nil
			case "Application":
				return applicationKind(), nil
			case "Consortiums":
				return consortiumsKind(), nil
			}
			return nil, fmt.Errorf("unknown channel ConfigGroup sub-group: %s", key)
		},
	}
}

func ordererKind() *groupKind {
	org := &groupKind{
		name: "orderer.DynamicOrdererOrgGroup", valueName: "orderer.DynamicOrdererOrgConfigValue",
		values:   map[string]protoreflect.FullName{"MSP": "msp.MSPConfig", "Endpoints": "common.OrdererAddresses"},
		badValue: "unknown Orderer Org ConfigValue name",
		sub:      noSubGroups("the orderer orgs do not support sub-groups"),
	}
	return &groupKind{
		name: "orderer.DynamicOrdererGroup", valueName: "orderer.DynamicOrdererConfigValue",
		values: map[string]protoreflect.FullName{
			"ConsensusType":       "orderer.ConsensusType",
			"BatchSize":           "orderer.BatchSize",
			"BatchTimeout":        "orderer.BatchTimeout",
			"KafkaBrokers":        "orderer.KafkaBrokers",
			"ChannelRestrictions": "orderer.ChannelRestrictions",
			"Capabilities":        "common.Capabilities",
		},
		badValue: "unknown Orderer ConfigValue name",
		sub:      allSubGroups(org),
	}
}

func applicationKind() *groupKind {
	org := &groupKind{
		name: "peer.DynamicApplicationOrgGroup", valueName: "peer.DynamicApplicationOrgConfigValue",
		values:   map[string]protoreflect.FullName{"MSP": "msp.MSPConfig", "AnchorPeers": "protos.AnchorPeers"},
		badValue: "Unknown Application Org ConfigValue name",
		sub:      noSubGroups("The application orgs do not support sub-groups"),
	}
	return &groupKind{
		name: "peer.DynamicApplicationGroup", valueName: "peer.DynamicApplicationConfigValue",
		values:   map[string]protoreflect.FullName{"Capabilities": "common.Capabilities", "ACLs": "protos.ACLs"},
		badValue: "Unknown Application ConfigValue name",
		sub:      allSubGroups(org),
	}
}

func consortiumsKind() *groupKind {
	consortium := &groupKind{
		name: "common.DynamicConsortiumGroup", valueName: "common.DynamicConsortiumConfigValue",
		values:   map[string]protoreflect.FullName{"ChannelCreationPolicy": "common.Policy"},
		badValue: "unknown Consortium ConfigValue name",
		sub:      allSubGroups(consortiumOrgKind()),
	}
	return &groupKind{
		name:     "common.DynamicConsortiumsGroup",
		noValues: "Consortiums currently support no config values",
		sub:      allSubGroups(consortium),
	}
}

func consortiumOrgKind() *groupKind {
	return &groupKind{
		name: "common.DynamicConsortiumOrgGroup", valueName: "common.DynamicConsortiumOrgConfigValue",
		values:   map[string]protoreflect.FullName{"MSP": "msp.MSPConfig"},
		badValue: "unknown Consortium Org ConfigValue name",
		sub:      noSubGroups("ConsortiumOrg groups do not support sub groups"),
	}
}

func allSubGroups(k *groupKind) func(string) (*groupKind, error) {
	return func(string) (*groupKind, error) { return k, nil }
}

func noSubGroups(text string) func(string) (*groupKind, error) {
	return func(string) (*groupKind, error) { return nil, errors.New(text) }
}

func groupNode(k *groupKind) node {
	n := namedNode("common.ConfigGroup")
	n.group, n.name = k, k.name
	return n
}

// slot is where a message stands in another one: in a field or, for maps, at a
// key of a field.
type slot struct {
	field  protoreflect.FieldDescriptor
	parent protoreflect.Message
	key    string
}

// child is the node of a message of type md in a slot of a message at n.
func (n node) child(s slot, md protoreflect.MessageDescriptor) (node, error) {
	f, parent, key := s.field, s.parent, s.key
	switch {
	case n.group != nil && f.Name() == "groups":
		k, err := n.group.sub(key)
		if err != nil {
			return node{}, err
		}
		return groupNode(k), nil
	case n.group != nil && f.Name() == "values":
		return n.group.valueNode(key)
	}
	switch f.FullName() {
	case "common.Config.channel_group", "common.ConfigUpdate.read_set", "common.ConfigUpdate.write_set":
		return groupNode(channelKind()), nil
	case "rwset.TxReadWriteSet.ns_rwset":
		c := plainNode(md)
		model := parent.Get(parent.Descriptor().Fields().ByName("data_model")).Enum()
		c.kvRWSet = model == 0
		return c, nil
	}
	return plainNode(md), nil
}

func (k *groupKind) valueNode(key string) (node, error) {
	if k.noValues != "" {
		return node{}, errors.New(k.noValues)
	}
	n := namedNode("common.ConfigValue")
	n.name = k.valueName
	var ok bool
	if n.value, ok = k.values[key]; !ok {
		n.valueErr = fmt.Errorf("%s: %s", k.badValue, key)
	}
	return n, nil
}

// opaqueFields are bytes that always hold the same message.
func opaqueField(f protoreflect.FullName) (protoreflect.FullName, bool) {
	switch f {
	case "common.BlockData.data":
		return "common.Envelope", true
	case "common.Envelope.payload":
		return "common.Payload", true
	case "common.Header.channel_header":
		return "common.ChannelHeader", true
	case "common.Header.signature_header", "common.ConfigSignature.signature_header", "protos.TransactionAction.header":
		return "common.SignatureHeader", true
	case "common.SignatureHeader.creator":
		return "msp.SerializedIdentity", true
	case "common.ConfigUpdateEnvelope.config_update":
		return "common.ConfigUpdate", true
	case "protos.TransactionAction.payload":
		return "protos.ChaincodeActionPayload", true
	case "protos.ChaincodeActionPayload.chaincode_proposal_payload":
		return "protos.ChaincodeProposalPayload", true
	case "protos.ChaincodeProposalPayload.input":
		return "protos.ChaincodeInvocationSpec", true
	case "protos.ChaincodeEndorsedAction.proposal_response_payload":
		return "protos.ProposalResponsePayload", true
	case "protos.ProposalResponsePayload.extension":
		return "protos.ChaincodeAction", true
	case "protos.ChaincodeAction.results":
		return "rwset.TxReadWriteSet", true
	case "protos.ChaincodeAction.events":
		return "protos.ChaincodeEvent", true
	}
	return "", false
}

// variableField tells whether the message in some bytes depends on other fields
// of the message that has them.
func (n node) variableField(f protoreflect.FullName) bool {
	switch f {
	case "common.Payload.data", "common.Policy.value", "common.MSPPrincipal.principal",
		"msp.MSPConfig.config", "orderer.ConsensusType.metadata":
		return true
	case "common.ConfigValue.value":
		return n.value != "" || n.valueErr != nil
	case "rwset.NsReadWriteSet.rwset":
		return n.kvRWSet
	}
	return false
}

// opaque tells whether a field's bytes are shown as a message.
func (n node) opaque(f protoreflect.FieldDescriptor) bool {
	if f.Kind() != protoreflect.BytesKind {
		return false
	}
	_, ok := opaqueField(f.FullName())
	return ok || n.variableField(f.FullName())
}

// content is the node of the message in an opaque field of m.
func (n node) content(f protoreflect.FieldDescriptor, m protoreflect.Message) (node, error) {
	if name, ok := opaqueField(f.FullName()); ok {
		return namedNode(name), nil
	}
	name, err := n.contentName(f.FullName(), m)
	if err != nil {
		return node{}, err
	}
	return namedNode(name), nil
}

func (n node) contentName(f protoreflect.FullName, m protoreflect.Message) (protoreflect.FullName, error) {
	get := func(name protoreflect.Name) protoreflect.Value { return m.Get(m.Descriptor().Fields().ByName(name)) }
	switch f {
	case "common.ConfigValue.value":
		return n.value, n.valueErr
	case "rwset.NsReadWriteSet.rwset":
		return "kvrwset.KVRWSet", nil
	case "common.Payload.data":
		return payloadContent(m)
	case "common.Policy.value":
		switch t := get("type").Int(); t {
		case 1:
			return "common.SignaturePolicyEnvelope", nil
		case 3:
			return "common.ImplicitMetaPolicy", nil
		default:
			return "", fmt.Errorf("unable to decode policy type: %d", t)
		}
	case "common.MSPPrincipal.principal":
		switch c := get("principal_classification").Enum(); c {
		case 0:
			return "common.MSPRole", nil
		case 1:
			return "common.OrganizationUnit", nil
		case 2:
			return "msp.SerializedIdentity", nil
		default:
			enum := m.Descriptor().Fields().ByName("principal_classification").Enum()
			if v := enum.Values().ByNumber(c); v != nil {
				return "", fmt.Errorf("unable to decode MSP type: %s", v.Name())
			}
			return "", fmt.Errorf("unable to decode MSP type: %d", c)
		}
	case "msp.MSPConfig.config":
		switch t := get("type").Int(); t {
		case 0:
			return "msp.FabricMSPConfig", nil
		case 1:
			return "msp.IdemixMSPConfig", nil
		default:
			return "", fmt.Errorf("unable to decode MSP type: %d", t)
		}
	default: // orderer.ConsensusType.metadata
		if get("type").String() == "etcdraft" {
			return "etcdraft.ConfigMetadata", nil
		}
		return "google.protobuf.Empty", nil
	}
}

// payloadContent is what a Payload holds, by the type in its channel header.
func payloadContent(payload protoreflect.Message) (protoreflect.FullName, error) {
	f := payload.Descriptor().Fields().ByName("header")
	if !payload.Has(f) {
		return "", errors.New("cannot determine payload type when header is missing")
	}
	header := payload.Get(f).Message()
	raw := header.Get(header.Descriptor().Fields().ByName("channel_header")).Bytes()
	md, _ := descriptor("common.ChannelHeader")
	channelHeader := dynamicpb.NewMessage(md)
	if err := unmarshal(raw, channelHeader); err != nil {
		return "", fmt.Errorf("corrupt channel header: %w", err)
	}
	switch t := channelHeader.Get(md.Fields().ByName("type")).Int(); t {
	case 0:
		return "common.ConfigValue", nil
	case 1:
		return "common.ConfigEnvelope", nil
	case 2:
		return "common.ConfigUpdateEnvelope", nil
	case 3:
		return "protos.Transaction", nil
	case 4:
		return "common.Envelope", nil
	default:
		return "", fmt.Errorf("decoding type %d is unimplemented", t)
	}
}
