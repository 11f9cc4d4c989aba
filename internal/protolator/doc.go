// Package protolator translates protobuf messages of Fabric 1.4 to JSON and
// back, as configtxlator, configtxgen -inspect… and `peer channel` print them
// (IDENTITY-CONFIG §9.2, §9.3). It differs from the usual JSON mapping of
// protobuf in that bytes which hold another message are shown as that message.
//
// Messages are handled dynamically, by descriptors that hold exactly the fields
// of 1.4: fields of later versions neither show nor are accepted.
//
// The package owns no state but the table of descriptors, which is built once
// and never changes. It starts no goroutine. Any package from L2 upwards and
// commands may import it.
package protolator
