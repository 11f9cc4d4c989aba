package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// tree is a JSON object.
type tree = map[string]any

// at returns the object below some keys.
func at(t *testing.T, v tree, keys ...string) tree {
	t.Helper()
	for _, k := range keys {
		next, ok := v[k].(tree)
		if !ok {
			t.Fatalf("no object %s in %v", k, v)
		}
		v = next
	}
	return v
}

// configOf decodes a config block and returns the block's number and its config.
func (n *network) configOf(file string) (number string, config tree) {
	n.t.Helper()
	var block struct {
		Header struct{ Number string }
		Data   struct {
			Data []struct {
				Payload struct {
					Data struct{ Config tree }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(n.do("configtxlator", "proto_decode", "--type", "common.Block", "--input", file)), &block); err != nil {
		n.t.Fatal(err)
	}
	return block.Header.Number, block.Data.Data[0].Payload.Data.Config
}

func (n *network) writeJSON(file string, v any) {
	n.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		n.t.Fatal(err)
	}
	writeFile(n.t, n.path(file), string(raw))
}

// update makes a config update: fetch, decode, edit, encode, compute, wrap.
func (n *network) update(u user, channel, out string, edit func(channelGroup tree)) {
	n.t.Helper()
	u.peer(n.ordered("channel", "fetch", "config", "now.block", "-c", channel)...)
	_, config := n.configOf("now.block")
	n.writeJSON("now.json", config)
	edit(at(n.t, config, "channel_group"))
	n.writeJSON("then.json", config)
	for _, f := range []string{"now", "then"} {
		n.do("configtxlator", "proto_encode", "--type", "common.Config", "--input", f+".json", "--output", f+".pb")
	}
	n.do("configtxlator", "compute_update", "--channel_id", channel, "--original", "now.pb", "--updated", "then.pb", "--output", "update.pb")
	var update tree
	if err := json.Unmarshal([]byte(n.do("configtxlator", "proto_decode", "--type", "common.ConfigUpdate", "--input", "update.pb")), &update); err != nil {
		n.t.Fatal(err)
	}
	header := tree{"channel_header": tree{"channel_id": channel, "type": 2}}
	n.writeJSON("envelope.json", tree{"payload": tree{"header": header, "data": tree{"config_update": update}}})
	n.do("configtxlator", "proto_encode", "--type", "common.Envelope", "--input", "envelope.json", "--output", out)
}

// ordererAdmin is the administrator of the orderer's organisation.
func (n *network) ordererAdmin() user {
	u := n.admin(0)
	u.env = append(u.env, "CORE_PEER_LOCALMSPID=OrdererMSP",
		"CORE_PEER_MSPCONFIGPATH="+n.path("crypto/ordererOrganizations/example.com/users/Admin@example.com/msp"))
	return u
}

// submit sends an update that the orderer must refuse for some reason, or, if that is empty, accept.
func (u user) submit(channel, file, reason string) {
	u.n.t.Helper()
	r := u.try(u.n.ordered("channel", "update", "-c", channel, "-f", file)...)
	switch {
	case reason == "" && r.code != 0:
		u.n.t.Fatalf("update: exit code %d\n%s", r.code, r.stderr)
	case reason != "" && (r.code != 1 || !strings.Contains(r.stderr, "got unexpected status: BAD_REQUEST -- ") || !strings.Contains(r.stderr, reason)):
		u.n.t.Fatalf("update: exit code %d, want %s\n%s", r.code, reason, r.stderr)
	}
}

// twoChannels is a network with one peer on two channels of one organisation.
func twoChannels(t *testing.T) (*network, *daemon) {
	t.Helper()
	n := newNetwork(t, options{})
	n.channelTx("OneOrg", "other")
	n.startOrderer()
	d := n.startPeer(0)
	for _, channel := range []string{"mychannel", "other"} {
		n.admin(0).peer(n.ordered("channel", "create", "-c", channel, "-f", channel+".tx")...)
		n.admin(0).peer("channel", "join", "-b", channel+".block")
	}
	return n, d
}

// TestConfigUpdate changes the configuration of a running channel with the commands of docs/config-update.md:
// a value that belongs to the orderer, and a new organisation that takes the signatures of two administrators.
func TestConfigUpdate(t *testing.T) {
	t.Parallel()
	n, d := twoChannels(t)
	admin := n.admin(0)

	size := func(g tree) tree { return at(t, g, "groups", "Orderer", "values", "BatchSize", "value") }
	n.update(admin, "mychannel", "size.pb", func(g tree) { size(g)["max_message_count"] = 7 })
	admin.submit("mychannel", "size.pb", "policy for [Value]  /Channel/Orderer/BatchSize not satisfied: implicit policy evaluation failed - "+
		"0 sub-policies were satisfied, but this policy requires 1 of the 'Admins' sub-policies to be satisfied")
	n.ordererAdmin().submit("mychannel", "size.pb", "")
	d.waitFor("[mychannel] Committed block [1]")
	n.ordererAdmin().submit("mychannel", "size.pb", "attempt to set key [Value]  /Channel/Orderer/BatchSize to version 1, but key is at version 1")

	writeFile(t, n.path("org3-crypto.yaml"), "PeerOrgs:\n- {Name: Org3, Domain: org3.example.com, EnableNodeOUs: true}\n")
	n.do("cryptogen", "generate", "--config", "org3-crypto.yaml", "--output", "crypto")
	writeFile(t, n.path("org3/configtx.yaml"), "Organizations:\n- {Name: Org3MSP, ID: Org3MSP, MSPDir: ../crypto/peerOrganizations/org3.example.com/msp}\n")
	var org3 tree
	if err := json.Unmarshal([]byte(n.do("configtxgen", "-configPath", "org3", "-printOrg", "Org3MSP")), &org3); err != nil {
		t.Fatal(err)
	}
	n.update(admin, "mychannel", "org3.pb", func(g tree) { at(t, g, "groups", "Application", "groups")["Org3MSP"] = org3 })
	// Submitting signs the file's content, not the file.
	admin.submit("mychannel", "org3.pb", "policy for [Group]  /Channel/Application not satisfied: implicit policy evaluation failed - "+
		"1 sub-policies were satisfied, but this policy requires 2 of the 'Admins' sub-policies to be satisfied")
	admin.peer("channel", "signconfigtx", "-f", "org3.pb")
	n.admin(1).submit("mychannel", "org3.pb", "")
	d.waitFor("[mychannel] Committed block [2]")

	admin.peer(n.ordered("channel", "fetch", "config", "end.block", "-c", "mychannel")...)
	number, config := n.configOf("end.block")
	orgs := at(t, config, "channel_group", "groups", "Application", "groups")
	if number != "2" || config["sequence"] != "3" || orgs["Org3MSP"] == nil || size(at(t, config, "channel_group"))["max_message_count"] != 7.0 {
		t.Errorf("block %s, sequence %v, organisations %v", number, config["sequence"], orgs)
	}
}

// TestIdemix: a configuration with an idemix MSP is refused with a reason, by the orderer as an update, by the
// peer as a channel to join. Everything else goes on (docs/adr/0002-idemix.md).
func TestIdemix(t *testing.T) {
	t.Parallel()
	const reason = "idemix MSPs (type 1) are not supported by this node, so it cannot serve a channel that has one"
	n, d := twoChannels(t)
	admin := n.admin(0)
	key := base64.StdEncoding.EncodeToString([]byte("key"))
	idemix := func(g tree) {
		orgs := at(t, g, "groups", "Application", "groups")
		org := tree{}
		for k, v := range at(t, orgs, "Org1MSP") {
			org[k] = v
		}
		org["values"] = tree{"MSP": tree{"mod_policy": "Admins", "value": tree{
			"type": 1, "config": tree{"name": "IdemixMSP", "ipk": key, "revocation_pk": key},
		}}}
		orgs["IdemixOrg"] = org
	}
	n.update(admin, "other", "idemix.pb", idemix)
	admin.submit("other", "idemix.pb", "could not create channel Application sub-group config: Setup error: "+reason)

	// The first block of a channel that another kind of orderer made.
	var block tree
	if err := json.Unmarshal([]byte(n.do("configtxlator", "proto_decode", "--type", "common.Block", "--input", "other.block")), &block); err != nil {
		t.Fatal(err)
	}
	payload := at(t, at(t, block, "data")["data"].([]any)[0].(tree), "payload")
	at(t, payload, "header", "channel_header")["channel_id"] = "strange"
	idemix(at(t, payload, "data", "config", "channel_group"))
	n.writeJSON("strange.json", block)
	n.do("configtxlator", "proto_encode", "--type", "common.Block", "--input", "strange.json", "--output", "strange.block")
	r := admin.try("channel", "join", "-b", "strange.block")
	if r.code != 1 || !strings.Contains(r.stderr, reason) {
		t.Errorf("join: exit code %d\n%s", r.code, r.stderr)
	}

	size := func(g tree) { at(t, g, "groups", "Orderer", "values", "BatchSize", "value")["max_message_count"] = 7 }
	for _, channel := range []string{"other", "mychannel"} {
		n.update(admin, channel, "size.pb", size)
		n.ordererAdmin().submit(channel, "size.pb", "")
		d.waitFor("[" + channel + "] Committed block [1]")
	}
	if list := admin.peer("channel", "list").stdout; list != "Channels peers has joined: \nmychannel\nother\n" && list != "Channels peers has joined: \nother\nmychannel\n" {
		t.Errorf("channels: %s", list)
	}
	if _, err := os.Stat(n.path("peer1/ledgersData/chains/chains/strange")); !os.IsNotExist(err) {
		t.Errorf("the refused channel has a ledger: %v", err)
	}
}
