#!/usr/bin/env bash
# Starts a network with TLS (one solo orderer, two organisations with a peer
# each), runs transactions through it and leaves it running.
#
#   scripts/demo.sh up      expects the commands in build/bin (make build)
#   scripts/demo.sh down    stops the network and removes build/demo
#
# Ports PORT (7050) to PORT+7 of 127.0.0.1 are used.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
demo=$root/build/demo
base=${PORT:-7050}

orderer_port=$base peer1_port=$((base + 1)) peer2_port=$((base + 3))
chaincode1_port=$((base + 2)) chaincode2_port=$((base + 4))
orderer_ops=$((base + 5)) peer1_ops=$((base + 6)) peer2_ops=$((base + 7))

channel=mychannel
orderer_flags="-o 127.0.0.1:$orderer_port --tls --cafile \"\$PWD/orderer-ca.pem\""
both_peers="--peerAddresses 127.0.0.1:$peer1_port --tlsRootCertFiles org1-ca.pem --peerAddresses 127.0.0.1:$peer2_port --tlsRootCertFiles org2-ca.pem"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
note() { printf '$ %s\n' "$*"; }

# run shows a command line as a user would type it, then runs it.
run() {
	note "$1"
	step=$1
	eval "$1"
}

# as shows and sets the environment of an organisation's administrator.
as() {
	note "source $1.env"
	# shellcheck disable=SC1090
	source "./$1.env"
}

die() {
	printf '\ndemo: %s\n' "$*" >&2
	exit 1
}

# explain tells after a failure where to look.
explain() {
	local code=$?
	[ "$code" -eq 0 ] && return
	printf '\ndemo: failed (exit code %s): %s\n' "$code" "${step:-setting up}" >&2
	for log in "$demo"/*.log; do
		[ -s "$log" ] || continue
		printf '\nlast lines of build/demo/%s:\n' "${log##*/}" >&2
		tail -n 12 "$log" | sed 's/^/    /' >&2
	done
	printf '\nThe network is left as it is; %s removes it.\n' "make demo-down" >&2
}

# spawn starts a daemon in the background.
spawn() { # name environment command...
	local name=$1 env=$2
	shift 2
	note "(source $env.env && exec $*) >$name.log 2>&1 &"
	(
		# shellcheck disable=SC1090
		source "./$env.env"
		exec "$@"
	) >>"$name.log" 2>&1 </dev/null &
	echo $! >"$name.pid"
	disown
}

# await waits until a text is in a daemon's log.
await() { # name text
	step="wait for \"$2\" in build/demo/$1.log"
	for _ in $(seq 300); do
		grep -q "$2" "$1.log" && return
		kill -0 "$(cat "$1.pid")" 2>/dev/null || return 1
		sleep 0.1
	done
	return 1
}

# until_ok repeats a command until it succeeds.
until_ok() {
	note "until $1; do sleep 0.2; done"
	step=$1
	for _ in $(seq 150); do
		if eval "$1" 2>retry.log; then
			rm -f retry.log
			return
		fi
		sleep 0.2
	done
	return 1
}

check_ports() {
	local port
	for port in $(seq "$base" $((base + 7))); do
		if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			die "port $port is taken; stop what listens there, or choose others: make demo PORT=17050"
		fi
	done
}

write_crypto_config() {
	cat >crypto-config.yaml <<-EOF
		OrdererOrgs:
		  - Name: Orderer
		    Domain: example.com
		    EnableNodeOUs: true
		    Specs:
		      - {Hostname: orderer, SANS: [127.0.0.1, localhost]}
		PeerOrgs:
		  - Name: Org1
		    Domain: org1.example.com
		    EnableNodeOUs: true
		    Template: {Count: 1, SANS: [127.0.0.1, localhost]}
		    Users: {Count: 1}
		  - Name: Org2
		    Domain: org2.example.com
		    EnableNodeOUs: true
		    Template: {Count: 1, SANS: [127.0.0.1, localhost]}
		    Users: {Count: 1}
	EOF
}

write_org() { # anchor name directory [peer port]
	cat <<-EOF
		    - &$1
		        Name: $1
		        ID: $1
		        MSPDir: crypto/$2/msp
		        Policies:
		            Readers: {Type: Signature, Rule: "OR('$1.member')"}
		            Writers: {Type: Signature, Rule: "OR('$1.member')"}
		            Admins: {Type: Signature, Rule: "OR('$1.admin')"}
	EOF
	[ $# -lt 3 ] || printf '        AnchorPeers: [{Host: 127.0.0.1, Port: %s}]\n' "$3"
}

write_configtx() {
	{
		echo "Organizations:"
		write_org OrdererMSP ordererOrganizations/example.com
		write_org Org1MSP peerOrganizations/org1.example.com "$peer1_port"
		write_org Org2MSP peerOrganizations/org2.example.com "$peer2_port"
		cat <<-EOF
			Application: &Application
			    Capabilities: {V1_4_2: true}
			    Policies: &Policies
			        Readers: {Type: ImplicitMeta, Rule: "ANY Readers"}
			        Writers: {Type: ImplicitMeta, Rule: "ANY Writers"}
			        Admins: {Type: ImplicitMeta, Rule: "MAJORITY Admins"}
			Channel: &Channel
			    Capabilities: {V1_4_3: true}
			    Policies: *Policies
			Profiles:
			    Genesis:
			        <<: *Channel
			        Orderer:
			            OrdererType: solo
			            Addresses: ["127.0.0.1:$orderer_port"]
			            BatchTimeout: 500ms
			            BatchSize: {MaxMessageCount: 100, AbsoluteMaxBytes: 10 MB, PreferredMaxBytes: 2 MB}
			            Capabilities: {V1_4_2: true}
			            Organizations: [*OrdererMSP]
			            Policies:
			                <<: *Policies
			                BlockValidation: {Type: ImplicitMeta, Rule: "ANY Writers"}
			        Consortiums:
			            DemoConsortium:
			                Organizations: [*Org1MSP, *Org2MSP]
			    Channel:
			        <<: *Channel
			        Consortium: DemoConsortium
			        Application:
			            <<: *Application
			            Organizations: [*Org1MSP, *Org2MSP]
		EOF
	} >configtx.yaml
}

write_orderer_env() {
	local dir=$demo/crypto/ordererOrganizations/example.com/orderers/orderer.example.com
	cat >orderer.env <<-EOF
		export PATH="$root/build/bin:\$PATH" FABRIC_CFG_PATH="$root/sampleconfig"
		export ORDERER_GENERAL_LISTENADDRESS=127.0.0.1 ORDERER_GENERAL_LISTENPORT=$orderer_port
		export ORDERER_GENERAL_GENESISMETHOD=file ORDERER_GENERAL_GENESISFILE="$demo/genesis.block"
		export ORDERER_GENERAL_LOCALMSPID=OrdererMSP ORDERER_GENERAL_LOCALMSPDIR="$dir/msp"
		export ORDERER_GENERAL_TLS_ENABLED=true
		export ORDERER_GENERAL_TLS_CERTIFICATE="$dir/tls/server.crt" ORDERER_GENERAL_TLS_PRIVATEKEY="$dir/tls/server.key"
		export ORDERER_GENERAL_TLS_ROOTCAS="[$dir/tls/ca.crt]"
		export ORDERER_FILELEDGER_LOCATION="$demo/orderer-data" ORDERER_OPERATIONS_LISTENADDRESS=127.0.0.1:$orderer_ops
	EOF
}

# write_peer_env writes the environments of an organisation's administrator and
# of its peer.
write_peer_env() { # number port chaincode-port operations-port
	local org=org$1.example.com
	local peer=$demo/crypto/peerOrganizations/$org/peers/peer0.$org
	cat >"org$1.env" <<-EOF
		export PATH="$root/build/bin:\$PATH" FABRIC_CFG_PATH="$root/sampleconfig"
		export CORE_PEER_LOCALMSPID=Org$1MSP CORE_PEER_ADDRESS=127.0.0.1:$2
		export CORE_PEER_MSPCONFIGPATH="$demo/crypto/peerOrganizations/$org/users/Admin@$org/msp"
		export CORE_PEER_TLS_ENABLED=true CORE_PEER_TLS_ROOTCERT_FILE="$peer/tls/ca.crt"
	EOF
	cat >"peer$1.env" <<-EOF
		export PATH="$root/build/bin:\$PATH" FABRIC_CFG_PATH="$root/sampleconfig"
		export CORE_PEER_ID=peer0.$org CORE_PEER_LOCALMSPID=Org$1MSP CORE_PEER_MSPCONFIGPATH="$peer/msp"
		export CORE_PEER_ADDRESS=127.0.0.1:$2 CORE_PEER_LISTENADDRESS=127.0.0.1:$2
		export CORE_PEER_CHAINCODELISTENADDRESS=127.0.0.1:$3 CORE_OPERATIONS_LISTENADDRESS=127.0.0.1:$4
		export CORE_PEER_GOSSIP_BOOTSTRAP=127.0.0.1:$2 CORE_PEER_GOSSIP_EXTERNALENDPOINT=127.0.0.1:$2
		export CORE_PEER_GOSSIP_USELEADERELECTION=false CORE_PEER_GOSSIP_ORGLEADER=true
		export CORE_PEER_TLS_ENABLED=true CORE_PEER_TLS_ROOTCERT_FILE="$peer/tls/ca.crt"
		export CORE_PEER_TLS_CERT_FILE="$peer/tls/server.crt" CORE_PEER_TLS_KEY_FILE="$peer/tls/server.key"
		export CORE_PEER_FILESYSTEMPATH="$demo/peer$1-data" CORE_VM_ENDPOINT=process://
	EOF
}

make_material() {
	say "Key material, genesis block and channel transactions"
	run "cryptogen generate --config crypto-config.yaml --output crypto"
	run "configtxgen -configPath . -profile Genesis -channelID sys -outputBlock genesis.block 2>configtxgen.log"
	run "configtxgen -configPath . -profile Channel -channelID $channel -outputCreateChannelTx $channel.tx 2>configtxgen.log"
	for org in 1 2; do
		run "configtxgen -configPath . -profile Channel -channelID $channel -asOrg Org${org}MSP -outputAnchorPeersUpdate anchor$org.tx 2>configtxgen.log"
		run "cp crypto/peerOrganizations/org$org.example.com/tlsca/tlsca.org$org.example.com-cert.pem org$org-ca.pem"
	done
	run "cp crypto/ordererOrganizations/example.com/tlsca/tlsca.example.com-cert.pem orderer-ca.pem"
}

start_nodes() {
	say "One orderer, two peers"
	spawn orderer orderer orderer
	spawn peer1 peer1 peer node start
	spawn peer2 peer2 peer node start
	await orderer "Beginning to serve requests"
	await peer1 "Started peer with ID="
	await peer2 "Started peer with ID="
}

make_channel() {
	say "Channel $channel"
	as org1
	run "peer channel create -c $channel -f $channel.tx $orderer_flags"
	run "peer channel join -b $channel.block"
	run "peer channel update -c $channel -f anchor1.tx $orderer_flags"
	as org2
	run "peer channel join -b $channel.block"
	run "peer channel update -c $channel -f anchor2.tx $orderer_flags"
}

deploy() {
	say "Chaincode asset of examples/asset"
	run "peer chaincode install -n asset -v 1.0 -p ../../examples/asset"
	as org1
	run "peer chaincode install -n asset -v 1.0 -p ../../examples/asset"
	step="build examples/asset" && wait "$warm"
	run "peer chaincode instantiate -C $channel -n asset -v 1.0 -c '{\"Args\":[]}' -P \"AND('Org1MSP.member','Org2MSP.member')\" $orderer_flags"
	until_ok "peer chaincode list --instantiated -C $channel | grep 'Name: asset'"
	as org2
	until_ok "peer chaincode list --instantiated -C $channel | grep 'Name: asset'"
}

invoke() { # arguments [flags]
	run "peer chaincode invoke -C $channel -n asset -c '{\"Args\":[$1]}' $orderer_flags $both_peers ${2-}"
}

query_both() {
	local org
	for org in org1 org2; do
		as "$org"
		run "peer chaincode query -C $channel -n asset -c '{\"Args\":[\"read\",\"$1\"]}'"
	done
}

transact() {
	say "Transactions, endorsed by both peers"
	invoke '"create","car1","alice","100"' --waitForEvent
	query_both car1
}

crash() {
	say "Kill a peer while a transaction is on its way, start it again"
	invoke '"transfer","car1","bob"'
	run "kill -9 $(cat peer2.pid)"
	as org1
	until_ok "peer chaincode query -C $channel -n asset -c '{\"Args\":[\"read\",\"car1\"]}' | grep bob"
	run "peer channel getinfo -c $channel"
	spawn peer2 peer2 peer node start
	until_ok "[ \"\$(grep -c 'Started peer with ID=' peer2.log)\" -eq 2 ]"
	invoke '"create","car2","carol","7"' --waitForEvent
	query_both car1
	run "peer channel getinfo -c $channel"
	local height2 height1
	height2=$(peer channel getinfo -c $channel 2>>retry.log)
	# shellcheck disable=SC1091
	source ./org1.env
	height1=$(peer channel getinfo -c $channel 2>>retry.log)
	step="the peer that was killed has $height2, the other $height1"
	[ "$height1" = "$height2" ]
	rm -f retry.log
}

summary() {
	cat <<-EOF

		The network runs; \`make demo-down\` stops it. Logs: build/demo/*.log
		orderer          127.0.0.1:$orderer_port  OrdererMSP  operations http://127.0.0.1:$orderer_ops
		peer0 of Org1    127.0.0.1:$peer1_port  Org1MSP     operations http://127.0.0.1:$peer1_ops
		peer0 of Org2    127.0.0.1:$peer2_port  Org2MSP     operations http://127.0.0.1:$peer2_ops
		channel          $channel, chaincode asset 1.0, policy AND('Org1MSP.member','Org2MSP.member')
		To paste:        cd build/demo
		as Org1          source org1.env
		as Org2          source org2.env
		invoke           peer chaincode invoke -C $channel -n asset -c '{"Args":["transfer","car1","dave"]}' $orderer_flags $both_peers --waitForEvent
		query            peer chaincode query -C $channel -n asset -c '{"Args":["read","car1"]}'
	EOF
}

up() {
	[ -x "$root/build/bin/peer" ] || die "build/bin/peer is missing; run make build first"
	[ ! -e "$demo" ] || die "build/demo exists; run make demo-down first"
	check_ports
	mkdir -p "$demo"
	cd "$demo"
	trap explain EXIT
	# The first build of the chaincode's modules takes time: begin at once.
	(cd "$root/examples/asset" && go build -buildvcs=false -o /dev/null .) >chaincode-build.log 2>&1 &
	warm=$!
	write_crypto_config
	write_configtx
	write_orderer_env
	write_peer_env 1 "$peer1_port" "$chaincode1_port" "$peer1_ops"
	write_peer_env 2 "$peer2_port" "$chaincode2_port" "$peer2_ops"
	say "Everything happens in build/demo"
	note "cd build/demo"
	# shellcheck disable=SC1091
	source ./org1.env
	make_material
	start_nodes
	make_channel
	deploy
	transact
	crash
	rm -f configtxgen.log chaincode-build.log
	summary
}

down() {
	local file pid
	for file in "$demo"/*.pid; do
		[ -e "$file" ] || continue
		pid=$(cat "$file")
		kill "$pid" 2>/dev/null || continue
		for _ in $(seq 100); do
			kill -0 "$pid" 2>/dev/null || continue 2
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null || true
	done
	rm -rf "$demo"
	echo "The network is stopped and its files are removed."
}

case ${1-} in
up) up ;;
down) down ;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
