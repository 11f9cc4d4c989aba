package stream

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

// batchSize is the number of results in one un-paginated response.
const batchSize = 100

// maxBytes bounds what one message to a chaincode carries and what one
// transaction writes. More could not be sent: gRPC ends a stream, or the answer
// to the client, at 100 MiB.
const maxBytes = 96 << 20

// errTooLarge refuses what would exceed maxBytes.
func errTooLarge(what string) error {
	return fmt.Errorf("%s of the transaction exceeds %d bytes", what, maxBytes)
}

// rows yields marshalled results; more is false at the end.
type rows struct {
	next  func() (row []byte, more bool, err error)
	close func()
}

func stateRows(it Iterator) rows {
	return rows{close: it.Close, next: func() ([]byte, bool, error) {
		kv, err := it.Next()
		if err != nil || kv == nil {
			return nil, false, err
		}
		row, err := proto.Marshal(kv)
		return row, err == nil, err
	}}
}

func historyRows(it HistoryIterator) rows {
	return rows{close: it.Close, next: func() ([]byte, bool, error) {
		mod, err := it.Next()
		if err != nil || mod == nil {
			return nil, false, err
		}
		row, err := proto.Marshal(mod)
		return row, err == nil, err
	}}
}

// iterator is an open query of a transaction.
type iterator struct {
	rows
	id       string
	pending  []byte // fetched to learn whether there is more
	returned int    // results handed out so far
}

// batch makes the next response of an un-paginated query (CHAINCODE §3.2). One
// result beyond the batch is read, which counts as read in the read set; but
// none beyond the overall limit. A batch is shorter when its results are large.
func (it *iterator) batch(limit int) (*peer.QueryResponse, error) {
	resp, size := &peer.QueryResponse{Id: it.id}, 0
	add := func(row []byte) {
		resp.Results = append(resp.Results, &peer.QueryResultBytes{ResultBytes: row})
		it.returned++
		size += len(row)
	}
	if it.pending != nil {
		add(it.pending)
		it.pending = nil
	}
	for it.returned < limit {
		row, more, err := it.next()
		if err != nil {
			return nil, err
		}
		if !more {
			return resp, nil
		}
		if len(resp.Results) == batchSize || len(resp.Results) > 0 && size+len(row) > maxBytes {
			it.pending, resp.HasMore = row, true
			return resp, nil
		}
		add(row)
	}
	return resp, nil
}

// respond sends the next batch and drops the iterator when it is exhausted.
func (s *Stream) respond(tx *transaction, it *iterator) ([]byte, error) {
	resp, err := it.batch(s.cfg.TotalQueryLimit)
	if err != nil || !resp.HasMore {
		delete(tx.iterators, it.id)
		it.close()
	}
	if err != nil {
		return nil, err
	}
	return proto.Marshal(resp)
}

func (s *Stream) open(tx *transaction, r rows) ([]byte, error) {
	it := &iterator{rows: r, id: newUUID()}
	if tx.iterators == nil {
		tx.iterators = map[string]*iterator{}
	}
	tx.iterators[it.id] = it
	return s.respond(tx, it)
}

// page sends everything of a paginated query in one response. It does not ask
// whether there is more than a page: the answer would be part of the
// simulation's results, which would then cover the whole range.
func page(it PageIterator, limit int32) ([]byte, error) {
	defer it.Close()
	resp, size := &peer.QueryResponse{Id: newUUID()}, 0
	for r := stateRows(it); len(resp.Results) < int(limit); {
		row, more, err := r.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if size += len(row); size > maxBytes {
			return nil, errTooLarge("a page")
		}
		resp.Results = append(resp.Results, &peer.QueryResultBytes{ResultBytes: row})
	}
	metadata, err := proto.Marshal(&peer.QueryResponseMetadata{FetchedRecordsCount: int32(len(resp.Results)), Bookmark: it.Bookmark()})
	if err != nil {
		return nil, fmt.Errorf("marshal failed: %w", err)
	}
	resp.Metadata = metadata
	return proto.Marshal(resp)
}

// pagination is what a query's metadata ask for.
type pagination struct {
	paged    bool
	limit    int32
	bookmark string
}

func (s *Stream) pagination(metadata []byte) (pagination, error) {
	if len(metadata) == 0 {
		return pagination{}, nil
	}
	md := &peer.QueryMetadata{}
	if err := decode(metadata, md); err != nil {
		return pagination{}, err
	}
	limit := int32(min(s.cfg.TotalQueryLimit, 1<<31-1))
	if md.PageSize > 0 && md.PageSize < limit {
		limit = md.PageSize
	}
	return pagination{paged: md.PageSize != 0 || md.Bookmark != "", limit: limit, bookmark: md.Bookmark}, nil
}

func (s *Stream) getStateByRange(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.GetStateByRange{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	p, err := s.pagination(req.Metadata)
	if err != nil {
		return nil, err
	}
	if req.Collection != "" {
		return nil, s.refusePrivateRead(tx, req.Collection)
	}
	if p.paged {
		start := req.StartKey
		if p.bookmark != "" {
			start = p.bookmark
		}
		it, err := tx.call.Simulator.GetStateRangePage(s.instance.Name, start, req.EndKey, p.limit)
		if err != nil {
			return nil, err
		}
		return page(it, p.limit)
	}
	it, err := tx.call.Simulator.GetStateRange(s.instance.Name, req.StartKey, req.EndKey)
	if err != nil {
		return nil, err
	}
	return s.open(tx, stateRows(it))
}

func (s *Stream) getQueryResult(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.GetQueryResult{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	p, err := s.pagination(req.Metadata)
	if err != nil {
		return nil, err
	}
	if req.Collection != "" {
		return nil, s.refusePrivateRead(tx, req.Collection)
	}
	if p.paged {
		it, err := tx.call.Simulator.ExecuteQueryPage(s.instance.Name, req.Query, p.limit, p.bookmark)
		if err != nil {
			return nil, err
		}
		return page(it, p.limit)
	}
	it, err := tx.call.Simulator.ExecuteQuery(s.instance.Name, req.Query)
	if err != nil {
		return nil, err
	}
	return s.open(tx, stateRows(it))
}

func (s *Stream) getHistoryForKey(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.GetHistoryForKey{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	if tx.call.History == nil {
		return nil, errNoLedger
	}
	it, err := tx.call.History.GetHistoryForKey(s.instance.Name, req.Key)
	if err != nil {
		return nil, err
	}
	return s.open(tx, historyRows(it))
}

func (s *Stream) queryStateNext(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.QueryStateNext{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	it := tx.iterators[req.Id]
	if it == nil {
		return nil, errors.New("query iterator not found")
	}
	return s.respond(tx, it)
}

func (s *Stream) queryStateClose(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.QueryStateClose{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	if it := tx.iterators[req.Id]; it != nil {
		delete(tx.iterators, req.Id)
		it.close()
	}
	return proto.Marshal(&peer.QueryResponse{Id: req.Id})
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
