package chanconfig

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// NewChannelTemplate builds the configuration, sequence 0, to which a request
// for a new channel is applied (IDENTITY-CONFIG §7.1, §7.2). system is the
// configuration of the system channel.
func NewChannelTemplate(system *Bundle, env *common.Envelope) (*Bundle, error) {
	channelID, update, err := creationUpdate(env)
	if err != nil {
		return nil, err
	}
	name, err := checkCreation(system, update)
	if err != nil {
		return nil, err
	}
	application := templateApplication(system, name, update)
	source := system.config.ChannelGroup
	group := &common.ConfigGroup{
		Groups:   map[string]*common.ConfigGroup{ApplicationGroupKey: application},
		Values:   make(map[string]*common.ConfigValue, len(source.Values)+1),
		Policies: make(map[string]*common.ConfigPolicy, len(source.Policies)),
	}
	for key, v := range source.Values {
		group.Values[key] = proto.CloneOf(v)
	}
	for key, p := range source.Policies {
		group.Policies[key] = proto.CloneOf(p)
	}
	if o, ok := source.Groups[OrdererGroupKey]; ok {
		group.Groups[OrdererGroupKey] = proto.CloneOf(o)
	}
	group.Values[ConsortiumKey] = &common.ConfigValue{
		Value:     protoutil.Marshal(&common.Consortium{Name: name}),
		ModPolicy: AdminsPolicyKey,
	}
	// Without the capability the versions stay as they are and the mod_policy of
	// the root stays empty.
	if system.orderer != nil && system.orderer.Capabilities.PredictableChannelTemplate() {
		group.ModPolicy = source.ModPolicy
		zeroVersions(group)
	}
	return NewBundle(channelID, &common.Config{ChannelGroup: group}, system.opts)
}

// creationUpdate takes channel id and update out of the request.
func creationUpdate(env *common.Envelope) (string, *common.ConfigUpdate, error) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.GetPayload(), payload); err != nil {
		return "", nil, fmt.Errorf("Failing initial channel config creation because of payload unmarshaling error: %w", err)
	}
	updateEnv := &common.ConfigUpdateEnvelope{}
	if err := proto.Unmarshal(payload.Data, updateEnv); err != nil {
		return "", nil, fmt.Errorf("Failing initial channel config creation because of config update envelope unmarshaling error: %w", err)
	}
	if payload.Header == nil {
		return "", nil, errors.New("Failed initial channel config creation because config update header was missing")
	}
	header := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, header); err != nil {
		return "", nil, fmt.Errorf("Failed initial channel config creation because channel header was malformed: %w", err)
	}
	update := &common.ConfigUpdate{}
	if err := proto.Unmarshal(updateEnv.ConfigUpdate, update); err != nil {
		return "", nil, fmt.Errorf("Failing initial channel config creation because of config update unmarshaling error: %w", err)
	}
	if update.ChannelId != header.ChannelId {
		return "", nil, fmt.Errorf("Failing initial channel config creation: mismatched channel IDs: '%s' != '%s'", update.ChannelId, header.ChannelId)
	}
	return header.ChannelId, update, nil
}

// checkCreation checks the form of the request and returns the name of the
// consortium.
func checkCreation(system *Bundle, update *common.ConfigUpdate) (string, error) {
	if update.WriteSet == nil {
		return "", errors.New("Config update has an empty writeset")
	}
	application, ok := update.WriteSet.Groups[ApplicationGroupKey]
	if !ok || application == nil {
		return "", errors.New("Config update has missing application group")
	}
	if v := application.Version; v != 1 {
		return "", fmt.Errorf("Config update for channel creation does not set application group version to 1, was %d", v)
	}
	value, ok := update.WriteSet.Values[ConsortiumKey]
	if !ok {
		return "", errors.New("Consortium config value missing")
	}
	consortium := &common.Consortium{}
	if err := proto.Unmarshal(value.GetValue(), consortium); err != nil {
		return "", fmt.Errorf("Error reading unmarshaling consortium name: %w", err)
	}
	if system.consortiums == nil {
		return "", errors.New("The ordering system channel does not appear to support creating channels")
	}
	members, ok := system.consortiums.Consortiums[consortium.Name]
	if !ok {
		return "", fmt.Errorf("Unknown consortium name: %s", consortium.Name)
	}
	if len(application.Groups) == 0 && len(members.Orgs) > 0 {
		return "", errors.New("Proposed configuration has no application group members, but consortium contains members")
	}
	for org := range application.Groups {
		if _, ok := members.Orgs[org]; !ok && len(members.Orgs) > 0 {
			return "", errors.New("Attempted to include a member which is not in the consortium")
		}
	}
	return consortium.Name, nil
}

// templateApplication is the Application group of the template: the requested
// organizations as the consortium knows them, guarded by its creation policy.
func templateApplication(system *Bundle, consortium string, update *common.ConfigUpdate) *common.ConfigGroup {
	source := system.config.ChannelGroup.Groups[ConsortiumsGroupKey].Groups[consortium]
	creation := &common.Policy{}
	// The value was parsed when the system channel's configuration was loaded.
	_ = proto.Unmarshal(source.Values[ChannelCreationPolicyKey].GetValue(), creation)
	group := &common.ConfigGroup{
		Groups:    make(map[string]*common.ConfigGroup),
		Policies:  map[string]*common.ConfigPolicy{ChannelCreationPolicyKey: {Policy: creation}},
		ModPolicy: ChannelCreationPolicyKey,
	}
	for org := range update.WriteSet.Groups[ApplicationGroupKey].Groups {
		// A consortium without members allows any organization; those then come
		// into being by the update.
		if g, ok := source.Groups[org]; ok {
			group.Groups[org] = proto.CloneOf(g)
		}
	}
	return group
}

func zeroVersions(g *common.ConfigGroup) {
	g.Version = 0
	for _, v := range g.Values {
		v.Version = 0
	}
	for _, p := range g.Policies {
		p.Version = 0
	}
	for _, sub := range g.Groups {
		zeroVersions(sub)
	}
}
