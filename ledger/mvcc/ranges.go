package mvcc

import "github.com/heddle-ledger/heddle/ledger/state"

// committedRange walks over a range of the committed state: over the versions
// only, in a database that can do that.
type committedRange struct {
	scan state.VersionScan
	end  string // open if empty

	it state.Iterator // without a scan
}

// openRange begins a walk over [start, end); an empty bound is open. There is one
// at a time.
func (j *judge) openRange(ns, start, end string) (committedRange, error) {
	scanner, ok := j.State.(state.VersionScanner)
	if !ok {
		it, err := j.State.Range(ns, start, end, 0)
		return committedRange{it: it}, err
	}
	scan := j.scans[ns]
	if scan == nil {
		if j.scans == nil {
			j.scans = map[string]state.VersionScan{}
		}
		scan = scanner.VersionScan(ns)
		j.scans[ns] = scan
	}
	scan.Seek(start)
	return committedRange{scan: scan, end: end}, nil
}

// next returns the next key; it is valid until the following call.
func (r *committedRange) next() (key string, v state.Version, ok bool, err error) {
	if r.scan != nil {
		key, v, ok, err = r.scan.Next()
		return key, v, ok && (r.end == "" || key < r.end), err
	}
	kv, err := r.it.Next()
	if err != nil || kv == nil {
		return "", v, false, err
	}
	return kv.Key, kv.Version, true, nil
}

func (r *committedRange) close() {
	if r.it != nil {
		r.it.Close()
	}
}

// close ends the scans that the ranges had.
func (j *judge) close() {
	for _, s := range j.scans {
		s.Close()
	}
}
