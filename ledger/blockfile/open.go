package blockfile

func (s *Store) recover() error { return nil }
