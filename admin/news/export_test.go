package news

// Bound lets a test meet the bounds.
func (t *Teller) Bound(pairs, entries int) { t.pairs, t.entries = pairs, entries }
