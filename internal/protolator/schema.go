package protolator

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer/etcdraft"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddle-ledger/heddle/protos/admin"
	"github.com/heddle-ledger/heddle/protos/kafka"
	"github.com/heddle-ledger/heddle/protos/peerid"
)

// schema returns the descriptors of 1.4's messages. They are built once, from
// those of the current protobuf module and the differences listed below
// (SURFACE §2.3, IDENTITY-CONFIG §9.2).
var schema = sync.OnceValue(func() *protoregistry.Files {
	files, err := buildSchema()
	if err != nil {
		// Only a different version of the protobuf module can cause this.
		panic(fmt.Sprintf("descriptors of 1.4: %v", err))
	}
	return files
})

// sources are files that hold messages of 1.4; what they import is added.
func sources() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		common.File_common_common_proto, common.File_common_configtx_proto,
		common.File_common_configuration_proto, common.File_common_policies_proto,
		common.File_common_ledger_proto, common.File_common_collection_proto,
		msp.File_msp_identities_proto, msp.File_msp_msp_config_proto, msp.File_msp_msp_principal_proto,
		orderer.File_orderer_ab_proto, orderer.File_orderer_cluster_proto, orderer.File_orderer_configuration_proto,
		etcdraft.File_orderer_etcdraft_configuration_proto, etcdraft.File_orderer_etcdraft_metadata_proto,
		peer.File_peer_chaincode_proto, peer.File_peer_chaincode_event_proto, peer.File_peer_chaincode_shim_proto,
		peer.File_peer_configuration_proto, peer.File_peer_events_proto, peer.File_peer_proposal_proto,
		peer.File_peer_proposal_response_proto, peer.File_peer_query_proto, peer.File_peer_resources_proto,
		peer.File_peer_signed_cc_dep_spec_proto, peer.File_peer_transaction_proto,
		rwset.File_ledger_rwset_rwset_proto, kvrwset.File_ledger_rwset_kvrwset_kv_rwset_proto,
		admin.File_admin_admin_proto, kafka.File_kafka_kafka_proto, peerid.File_peerid_peerid_proto,
		emptypb.File_google_protobuf_empty_proto,
	}
}

// laterFields are fields that 1.4 does not have.
func laterFields() []protoreflect.FullName {
	return []protoreflect.FullName{
		"common.BlockchainInfo.bootstrappingSnapshotInfo",
		"common.MetadataSignature.identifier_header",
		"common.StaticCollectionConfig.endorsement_policy",
		"common.StaticCollectionConfig.member_only_write",
		"kvrwset.KVWriteHash.is_purge",
		"orderer.ConsensusRequest.metadata",
		"orderer.SeekInfo.content_type",
		"orderer.SeekPosition.next_commit",
		"protos.ChaincodeInput.is_init",
		"protos.DeliverResponse.block_and_private_data",
		"protos.ProposalResponse.interest",
	}
}

// addedFields are fields that only 1.4 has, by message.
func addedFields() map[protoreflect.FullName]*descriptorpb.FieldDescriptorProto {
	return map[protoreflect.FullName]*descriptorpb.FieldDescriptorProto{
		"protos.ChaincodeAction":          field("token_expectation", 5, ".protos.TokenExpectation"),
		"protos.ChaincodeDeploymentSpec":  enumField("exec_env", 4, ".protos.ChaincodeDeploymentSpec.ExecutionEnvironment"),
		"protos.ChaincodeHeaderExtension": field("payload_visibility", 1, "bytes"),
	}
}

// addedFile holds the messages that only 1.4 has and that no room of ours
// needs.
func addedFile() []*descriptorpb.FileDescriptorProto {
	commonFile := &descriptorpb.FileDescriptorProto{
		Name: proto.String("common/v14.proto"), Package: proto.String("common"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("CollectionCriteria", field("channel", 1, "string"), field("tx_id", 2, "string"), field("collection", 3, "string"), field("namespace", 4, "string")),
			withMaps("ConfigGroupSchema", ".common.", map[string]string{"groups": "ConfigGroupSchema", "values": "ConfigValueSchema", "policies": "ConfigPolicySchema"}),
			message("ConfigValueSchema"),
			message("ConfigPolicySchema"),
		},
	}
	plain := message("PlainExpectation", field("import_expectation", 1, ".protos.PlainTokenExpectation"), field("transfer_expectation", 2, ".protos.PlainTokenExpectation"))
	plain.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("payload")}}
	expectation := message("TokenExpectation", field("plain_expectation", 1, ".protos.PlainExpectation"))
	expectation.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("Expectation")}}
	for _, f := range append(slices.Clone(plain.Field), expectation.Field...) {
		f.OneofIndex = proto.Int32(0)
	}
	outputs := field("outputs", 1, ".protos.PlainOutput")
	outputs.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	peerFile := &descriptorpb.FileDescriptorProto{
		Name: proto.String("peer/v14.proto"), Package: proto.String("protos"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("SignedTransaction", field("transaction_bytes", 1, "bytes"), field("signature", 2, "bytes")),
			expectation, plain,
			message("PlainTokenExpectation", outputs),
			message("PlainOutput", field("owner", 1, "bytes"), field("type", 2, "string"), field("quantity", 3, "uint64")),
		},
	}
	return []*descriptorpb.FileDescriptorProto{commonFile, peerFile}
}

func message(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
	return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
}

// withMaps is a message of fields 1, 2, … that map strings to messages.
func withMaps(name, pkg string, maps map[string]string) *descriptorpb.DescriptorProto {
	m := message(name)
	for i, key := range []string{"groups", "values", "policies"} {
		entry := strings.ToUpper(key[:1]) + key[1:] + "Entry"
		m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
			Name:    &entry,
			Field:   []*descriptorpb.FieldDescriptorProto{field("key", 1, "string"), field("value", 2, pkg+maps[key])},
			Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		})
		f := field(key, int32(i+1), pkg+name+"."+entry)
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		m.Field = append(m.Field, f)
	}
	return m
}

// field is a singular field; kind is bytes, string, uint64 or a message's name.
func field(name string, number int32, kind string) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: &name, Number: &number, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	switch kind {
	case "bytes":
		f.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
	case "string":
		f.Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
	case "uint64":
		f.Type = descriptorpb.FieldDescriptorProto_TYPE_UINT64.Enum()
	default:
		f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), &kind
	}
	return f
}

func enumField(name string, number int32, enum string) *descriptorpb.FieldDescriptorProto {
	f := field(name, number, enum)
	f.Type = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum()
	return f
}

func buildSchema() (*protoregistry.Files, error) {
	set := &descriptorpb.FileDescriptorSet{File: addedFile()}
	seen := make(map[string]bool)
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		file := protodesc.ToFileDescriptorProto(fd)
		patchFile(file)
		set.File = append(set.File, file)
	}
	for _, fd := range sources() {
		add(fd)
	}
	return protodesc.NewFiles(set)
}

// patchFile turns a file of the current protobuf module into that of 1.4.
func patchFile(file *descriptorpb.FileDescriptorProto) {
	for _, m := range file.MessageType {
		name := protoreflect.FullName(file.GetPackage() + "." + m.GetName())
		m.Field = slices.DeleteFunc(m.Field, func(f *descriptorpb.FieldDescriptorProto) bool {
			return slices.Contains(laterFields(), name.Append(protoreflect.Name(f.GetName())))
		})
		added, ok := addedFields()[name]
		if !ok {
			continue
		}
		m.ReservedName, m.ReservedRange = nil, nil
		m.Field = append(m.Field, added)
		switch name {
		case "protos.ChaincodeAction":
			file.Dependency = append(file.Dependency, "peer/v14.proto")
		case "protos.ChaincodeDeploymentSpec":
			m.EnumType = append(m.EnumType, &descriptorpb.EnumDescriptorProto{
				Name: proto.String("ExecutionEnvironment"),
				Value: []*descriptorpb.EnumValueDescriptorProto{
					{Name: proto.String("DOCKER"), Number: proto.Int32(0)},
					{Name: proto.String("SYSTEM"), Number: proto.Int32(1)},
				},
			})
		}
	}
	for _, e := range file.EnumType {
		if file.GetPackage() == "common" && e.GetName() == "HeaderType" {
			e.ReservedName, e.ReservedRange = nil, nil
			e.Value = append(e.Value,
				&descriptorpb.EnumValueDescriptorProto{Name: proto.String("PEER_ADMIN_OPERATION"), Number: proto.Int32(8)},
				&descriptorpb.EnumValueDescriptorProto{Name: proto.String("TOKEN_TRANSACTION"), Number: proto.Int32(9)})
		}
	}
}

// descriptor returns a message of 1.4 by its full name.
func descriptor(name protoreflect.FullName) (protoreflect.MessageDescriptor, bool) {
	d, err := schema().FindDescriptorByName(name)
	if err != nil {
		return nil, false
	}
	md, ok := d.(protoreflect.MessageDescriptor)
	return md, ok && !md.IsMapEntry()
}

// goName is the name of a message's Go type in the reference, which its error
// texts quote.
func goName(md protoreflect.MessageDescriptor) string {
	pkg := string(md.ParentFile().Package())
	rest := strings.TrimPrefix(string(md.FullName()), pkg+".")
	switch {
	case strings.HasPrefix(md.ParentFile().Path(), "msp/"):
		pkg = "msp"
	case pkg == "protos":
		pkg = "peer"
	case pkg == "google.protobuf":
		pkg = strings.ToLower(rest)
	}
	return pkg + "." + strings.ReplaceAll(rest, ".", "_")
}

// enumName is the name under which the reference registers an enum.
func enumName(ed protoreflect.EnumDescriptor) string {
	pkg := string(ed.ParentFile().Package())
	rest := strings.TrimPrefix(string(ed.FullName()), pkg+".")
	return pkg + "." + strings.ReplaceAll(rest, ".", "_")
}
