package store

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"

	"github.com/usher-authz/usher/policies"
)

const (
	// actionImport is the log's name for it.
	actionImport = "import"
	// A batch is applied in one transaction, which is closed when it has this many
	// documents or rows: enough that the COMMIT is shared, few enough that other
	// writers wait for a fraction of a second. A document is never divided.
	maxBatchDocuments = 200
	maxBatchRows      = 8000
	// readAhead is how many documents are decoded while the ones before are applied.
	readAhead = 64
)

// ImportError is why a document did not go in.
type ImportError struct {
	Line    int                // where the document begins
	Account policies.AccountID // whose it is; "" if that could not be read
	Errors  []policies.FieldError
}

// ImportReport is the outcome of an import.
type ImportReport struct {
	Imported int // documents that are in now, unchanged ones included
	Grants   int // in them: one role on one resource for one member each
	Errors   []ImportError
	// Revision is that of the last document that changed anything, the present one
	// if none did.
	Revision policies.Revision
}

// Import puts account documents in: each replaces that account's whole
// collaboration, wholly or, with all its errors reported, not at all. What a
// document leaves as it is keeps its identity, and a document that changes nothing
// makes no revision.
//
// Each document that changes something is a revision of its own: so a change is
// never larger than one account, a reader of the log sees which account changed, and
// no half of an import is ever seen as a whole one. Documents share transactions,
// for the sake of the COMMIT: decoding, validation, the comparison with what is there,
// the encoding of the log and its hashes, but for the chain, are done before the lock is taken; under it, it is only
// checked that nothing that the comparison rested on has changed, and the rows are
// copied in, table by table. The next documents are planned meanwhile.
//
// progress, if not nil, is called by one goroutine with the number of documents
// that are done. An error is of the import as a whole, such as an [UnavailableError]
// or what the documents' reader failed with: documents before it are in, as the
// report says. The call's If-Match and idempotency key do not count.
func (s *Store) Import(
	ctx context.Context, call Call, documents iter.Seq[policies.DocumentLine], progress func(done int),
) (ImportReport, error) {
	call.IfMatch, call.IdempotencyKey = "", ""
	// Who did it is hashed with what was done, before there is a transaction.
	call = call.identified()
	var err error
	if call.TokenName, err = s.tokenName(ctx, call.Actor); err != nil {
		return ImportReport{}, err
	}
	im := &importer{s: s, call: call, progress: progress}
	ahead := startAhead(ctx, documents)
	defer ahead.stop()
	if err := im.run(ctx, ahead.lines); err != nil {
		return im.report, err
	}
	if im.report.Revision == 0 {
		head, err := s.Head(ctx)
		if err != nil {
			return im.report, err
		}
		im.report.Revision = head.Revision
	}
	return im.report, ctx.Err()
}

// importer gathers documents into batches. While one is applied the next is planned.
type importer struct {
	s        *Store
	call     Call
	progress func(int)
	report   ImportReport
	done     int
	batch    []policies.DocumentLine
	rows     int
	inFlight *flight
}

// flight is a plan that is being applied.
type flight struct {
	// view is what the platform will look like after it, for the next plan, nil if
	// that is not known (what follows an address); owners are those that it is about,
	// of which a view says too little.
	view   *importView
	owners map[policies.AccountID]bool
	landed chan landing
}

// landing is what became of a plan.
type landing struct {
	err error
	// clean says that the plan was applied as it was, by that transaction: the next
	// plan may rest on it.
	clean       bool
	transaction uuid.UUID
	revision    policies.Revision // 0: nothing was changed
	documents   []*documentPlan
}

// run takes all documents, and returns when all that was begun has ended.
func (im *importer) run(ctx context.Context, documents <-chan policies.DocumentLine) (err error) {
	defer func() {
		if _, landErr := im.land(); err == nil {
			err = landErr
		}
	}()
	for line := range documents {
		if err := im.add(ctx, line); err != nil {
			return err
		}
	}
	return im.flush(ctx)
}

// add takes one document, and applies the batch when it is full.
func (im *importer) add(ctx context.Context, line policies.DocumentLine) error {
	if line.Err != nil {
		errs, ok := documentErrors(line.Err)
		if !ok {
			return errors.Join(im.flush(ctx), line.Err)
		}
		im.refuse(line, errs)
		return nil
	}
	rows := documentRows(line.Document)
	if len(im.batch) > 0 && im.rows+rows > maxBatchRows {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.batch, im.rows = append(im.batch, line), im.rows+rows
	if len(im.batch) == maxBatchDocuments {
		return im.flush(ctx)
	}
	return nil
}

// documentErrors are what is wrong with a document; not ok is an error of another
// sort, after which there are no more documents.
func documentErrors(err error) (errs []policies.FieldError, ok bool) {
	var invalid *policies.InvalidError
	var malformed *policies.MalformedError
	var tooLarge *policies.TooLargeError
	switch {
	case errors.As(err, &invalid):
		return invalid.Errors, true
	case errors.As(err, &malformed):
		return []policies.FieldError{{Field: malformed.Where, Reason: malformed.Reason}}, true
	case errors.As(err, &tooLarge):
		return []policies.FieldError{{Reason: tooLarge.Error()}}, true
	}
	return nil, false
}

func (im *importer) refuse(line policies.DocumentLine, errs []policies.FieldError) {
	im.report.Errors = append(im.report.Errors, ImportError{Line: line.Line, Account: line.Account, Errors: errs})
	im.finished(1)
}

func (im *importer) finished(documents int) {
	im.done += documents
	if im.progress != nil {
		im.progress(im.done)
	}
}

// documentRows is about how many rows a document has.
func documentRows(d policies.Document) int {
	n := 1 + len(d.Groups) + len(d.Environments) + len(d.Policies) + len(d.Roles) + len(d.Members)
	for _, m := range d.Members {
		n += documentGrants(m)
	}
	return n
}

func documentGrants(m policies.DocumentMember) int {
	n := 0
	for _, g := range m.Grants {
		n += len(g.Roles)
	}
	return n
}

// flush sends what was gathered on its way.
func (im *importer) flush(ctx context.Context) error {
	batch := im.batch
	im.batch, im.rows = nil, 0
	for len(batch) > 0 {
		p, err := im.planAhead(ctx, batch)
		if err != nil {
			return err
		}
		landed, err := im.land()
		if err != nil {
			return err
		}
		if p != nil && landed.clean {
			p.rests = landed.transaction
		} else if p, err = im.s.planImport(ctx, im.call.Actor, batch, nil); err != nil {
			return err
		}
		batch = batch[p.taken:]
		im.start(ctx, p) // p is the goroutine's from here on
	}
	return nil
}

// planAhead plans a batch while the one before is applied; nil if it cannot.
func (im *importer) planAhead(ctx context.Context, batch []policies.DocumentLine) (*importPlan, error) {
	if im.inFlight == nil || im.inFlight.view == nil {
		return nil, nil
	}
	for _, line := range batch {
		if im.inFlight.owners[line.Document.Account.ID] {
			return nil, nil
		}
	}
	return im.s.planImport(ctx, im.call.Actor, batch, im.inFlight.view)
}

// start applies a plan in a goroutine, which [importer.land] awaits.
func (im *importer) start(ctx context.Context, p *importPlan) {
	f := &flight{view: p.view, owners: make(map[policies.AccountID]bool, p.taken), landed: make(chan landing, 1)}
	for _, line := range p.batch {
		f.owners[line.Document.Account.ID] = true
	}
	for _, d := range p.documents {
		if d.alone() {
			f.view = nil
		}
	}
	im.inFlight = f
	go func() { f.landed <- im.s.applyImport(ctx, im.call, p) }()
}

// land waits for the plan in flight, and reports its outcome.
func (im *importer) land() (landing, error) {
	if im.inFlight == nil {
		return landing{}, nil
	}
	l := <-im.inFlight.landed
	im.inFlight = nil
	for _, d := range l.documents {
		if d.errs != nil {
			im.refuse(d.line, d.errs)
			continue
		}
		im.report.Imported++
		for _, m := range d.line.Document.Members {
			im.report.Grants += documentGrants(m)
		}
		im.finished(1)
	}
	if l.revision != 0 {
		im.report.Revision = l.revision
	}
	return l, l.err
}

// applyImport applies a plan. If someone took an id or an address since it was made,
// each of its documents is tried alone, and says whose it is.
func (s *Store) applyImport(ctx context.Context, call Call, p *importPlan) landing {
	batch, planned := p.batch, p.view
	out, err := s.writeTx(ctx, call, func(tx *tx) (outcome, error) { return tx.importPlan(p) })
	var taken *policies.TakenError
	switch {
	case err == nil:
		l := landing{clean: p.view == planned && p.taken == len(batch), transaction: p.transaction, documents: p.documents}
		if out.changed {
			l.revision = out.revision
		}
		if p.taken == len(batch) {
			return l
		}
		// Planned anew, fewer of them went together.
		return l.join(s.applyAlone(ctx, call, batch[p.taken:]))
	case errors.As(err, &taken) && len(batch) > 1:
		return s.applyAlone(ctx, call, batch)
	case errors.As(err, &taken):
		refused := &documentPlan{line: batch[0], errs: []policies.FieldError{{Field: taken.Field, Reason: taken.Reason}}}
		return landing{documents: []*documentPlan{refused}}
	default:
		return landing{err: err}
	}
}

// applyAlone applies documents one by one.
func (s *Store) applyAlone(ctx context.Context, call Call, batch []policies.DocumentLine) landing {
	var all landing
	for i := range batch {
		p, err := s.planImport(ctx, call.Actor, batch[i:i+1], nil)
		if err != nil {
			return all.join(landing{err: err})
		}
		if all = all.join(s.applyImport(ctx, call, p)); all.err != nil {
			return all
		}
	}
	return all
}

// join adds what landed next.
func (l landing) join(next landing) landing {
	l.err, l.clean = next.err, false
	l.documents = append(l.documents, next.documents...)
	if next.revision != 0 {
		l.revision = next.revision
	}
	return l
}

// ahead reads documents in a goroutine of its own, some ahead of their use.
type ahead struct {
	lines  chan policies.DocumentLine
	cancel context.CancelFunc
	done   chan struct{}
}

func startAhead(ctx context.Context, documents iter.Seq[policies.DocumentLine]) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{lines: make(chan policies.DocumentLine, readAhead), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer close(a.lines)
		for line := range documents {
			select {
			case a.lines <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return a
}

// stop ends the goroutine, as soon as the reader of the documents lets it.
func (a *ahead) stop() {
	a.cancel()
	<-a.done
}
