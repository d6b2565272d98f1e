package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// entity is a subject, an action or a resource. An action's name is its id.
type entity struct {
	given      bool
	kind, id   string
	properties jsontext.Value // as they were sent
}

// requestContext is what usher reads of a context; the rest decides nothing.
type requestContext struct {
	given   bool
	min     policies.Revision
	explain bool
	raw     jsontext.Value // the whole, as it was sent
}

// evaluation is one evaluation as it was sent, whole or without what the defaults
// of its batch give. The fault is the first thing wrong with it, nil if nothing is.
type evaluation struct {
	subject, action, resource entity
	context                   requestContext
	fault                     *policies.MalformedError
	request                   authz.Request // for question
}

// or fills in what e has not from the defaults of its batch: entity by entity,
// never field by field (AuthZEN, Default values).
func (e *evaluation) or(defaults *evaluation) {
	if !e.subject.given {
		e.subject = defaults.subject
	}
	if !e.action.given {
		e.action = defaults.action
	}
	if !e.resource.given {
		e.resource = defaults.resource
	}
	if !e.context.given {
		e.context = defaults.context
	}
}

// check makes a fault of what is missing; where is the pointer of e.
func (e *evaluation) check(where string) {
	if e.fault != nil {
		return
	}
	for _, part := range [...]struct {
		name  string
		given bool
	}{{"subject", e.subject.given}, {"action", e.action.given}, {"resource", e.resource.given}} {
		if !part.given {
			e.fault = &policies.MalformedError{Where: where + "/" + part.name, Reason: "is required"}
			return
		}
	}
}

// question is e as r asks it. What it refers to is e's.
func (e *evaluation) question(r *http.Request) authz.Question {
	e.request = authz.Request{
		Context: e.context.raw, SubjectProperties: e.subject.properties, ActionProperties: e.action.properties,
		ResourceProperties: e.resource.properties, ID: requestID(r), RemoteAddr: r.RemoteAddr,
	}
	return authz.Question{
		SubjectType: e.subject.kind, Subject: e.subject.id,
		Action:       e.action.id,
		ResourceType: e.resource.kind, ResourceID: e.resource.id,
		Explain: e.context.explain, Request: &e.request,
	}
}

// Semantics of a batch (AuthZEN, Evaluations semantics).
const (
	executeAll          = "execute_all"
	denyOnFirstDeny     = "deny_on_first_deny"
	permitOnFirstPermit = "permit_on_first_permit"
)

// request is the body of evaluation or evaluations.
type request struct {
	top      evaluation   // the evaluation, or the defaults of the batch
	items    []evaluation // of a batch
	batch    bool         // there were items: without, a batch is a single evaluation
	semantic string
}

// decoder reads requests, without recursion of its own, in one pass and with next
// to no allocation but for the ids. It is used again and again: see decoders.
type decoder struct {
	body    bytes.Buffer
	raw     []byte // the body, while it is decoded and answered
	json    *jsontext.Decoder
	request request
	scratch []byte
	// Of the answer: the questions that are put, and the bytes of the body.
	questions []authz.Question
	answer    []byte
}

// What a decoder may have grown to and still be kept for the next request: enough
// for batches of a hundred or two.
const (
	maxPooledBytes = 128 << 10
	maxPooledItems = 256
)

// newDecoders makes a pool of decoders.
func newDecoders() *sync.Pool {
	return &sync.Pool{New: func() any { return &decoder{json: jsontext.NewDecoder(&bytes.Buffer{})} }}
}

// keep makes d ready for the next request; false: it has grown too large.
func (d *decoder) keep() bool {
	if d.body.Cap() > maxPooledBytes || cap(d.answer) > maxPooledBytes || cap(d.request.items) > maxPooledItems {
		return false
	}
	// Ids are not kept alive by the pool.
	clear(d.request.items[:cap(d.request.items)])
	clear(d.questions[:cap(d.questions)])
	d.request = request{items: d.request.items[:0]}
	d.questions, d.answer, d.scratch = d.questions[:0], d.answer[:0], d.scratch[:0]
	d.body.Reset()
	d.raw = nil
	return true
}

// decode reads the body into d.request. asBatch: evaluations and options have
// their meaning. The error is a [policies.MalformedError] or a tooLargeError.
func (d *decoder) decode(asBatch bool) error {
	d.begin()
	if err := d.whole(d.top(asBatch)); err != nil {
		return err
	}
	r := &d.request
	r.batch = asBatch && len(r.items) > 0
	if !r.batch {
		r.top.check("")
	}
	if r.top.fault != nil {
		return r.top.fault
	}
	for i := range r.items {
		r.items[i].or(&r.top)
		r.items[i].check("")
	}
	return nil
}

// whole makes sure that the body was read to its end; err is what reading it gave.
func (d *decoder) whole(err error) error {
	if err != nil {
		return syntaxFault(err)
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return &policies.MalformedError{Reason: "the body has something after the JSON object"}
	}
	return nil
}

// top reads the object that is the body.
func (d *decoder) top(asBatch bool) error {
	top := &d.request.top
	return d.members(&top.fault, "the body must be a JSON object", func(name []byte) error {
		if asBatch {
			switch string(name) {
			case "evaluations":
				return d.evaluations()
			case "options":
				return d.options()
			}
		}
		return d.part(top, name)
	})
}

// part reads one member of an evaluation.
func (d *decoder) part(e *evaluation, name []byte) error {
	switch string(name) {
	case "subject":
		return d.entity(e, &e.subject, "id", true)
	case "action":
		return d.entity(e, &e.action, "name", false)
	case "resource":
		return d.entity(e, &e.resource, "id", true)
	case "context":
		return d.context(e)
	default: // receivers ignore unknown fields (AuthZEN, JSON Serialization)
		return d.json.SkipValue()
	}
}

// entity reads subject, action or resource, of which idName holds the id.
func (d *decoder) entity(e *evaluation, into *entity, idName string, typed bool) error {
	var hasType, hasID bool
	into.given = true
	err := d.members(&e.fault, "must be an object", func(name []byte) error {
		switch {
		case typed && string(name) == "type":
			hasType = true
			return d.text(&e.fault, &into.kind)
		case string(name) == idName:
			hasID = true
			return d.text(&e.fault, &into.id)
		case string(name) == "properties":
			if d.json.PeekKind() != '{' {
				return d.wrong(&e.fault, "must be an object")
			}
			begin := d.json.InputOffset()
			err := d.json.SkipValue()
			into.properties = d.since(begin)
			return err
		}
		return d.json.SkipValue()
	})
	if err == nil && e.fault == nil {
		if typed && !hasType {
			e.fault = &policies.MalformedError{Where: string(d.json.StackPointer()) + "/type", Reason: "is required"}
		} else if !hasID {
			e.fault = &policies.MalformedError{Where: string(d.json.StackPointer()) + "/" + idName, Reason: "is required"}
		}
	}
	return err
}

// context reads what usher knows of a context.
func (d *decoder) context(e *evaluation) error {
	e.context.given = true
	begin := d.json.InputOffset()
	defer func() { e.context.raw = d.since(begin) }()
	return d.members(&e.fault, "must be an object", func(name []byte) error {
		switch string(name) {
		case "min_revision":
			if d.json.PeekKind() != '0' {
				return d.wrong(&e.fault, revisionReason)
			}
			raw, err := d.json.ReadValue()
			if err != nil {
				return err
			}
			least, ok := wholeNumber(raw)
			if !ok {
				d.note(&e.fault, revisionReason)
			}
			e.context.min = least
			return nil
		case "explain":
			switch d.json.PeekKind() {
			case 't':
				e.context.explain = true
			case 'f':
				e.context.explain = false
			default:
				return d.wrong(&e.fault, "must be true or false")
			}
		}
		return d.json.SkipValue()
	})
}

// begin begins to read the body.
func (d *decoder) begin() {
	d.raw = d.body.Bytes()
	d.json.Reset(&d.body)
}

// since is the value that ended here, where a name ended at the offset begin.
func (d *decoder) since(begin int64) jsontext.Value {
	return bytes.TrimLeft(d.raw[begin:d.json.InputOffset()], ": \t\r\n")
}

// evaluations reads the items of a batch.
func (d *decoder) evaluations() error {
	r := &d.request
	if d.json.PeekKind() != '[' {
		return d.wrong(&r.top.fault, "must be an array")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() != ']' {
		if len(r.items) == policies.MaxBatchSize {
			return &tooLargeError{"too many evaluations", policies.MaxBatchSize}
		}
		r.items = append(r.items, evaluation{})
		item := &r.items[len(r.items)-1]
		err := d.members(&item.fault, "must be an object", func(name []byte) error { return d.part(item, name) })
		if err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// options reads the options of a batch; those that usher does not know are ignored.
func (d *decoder) options() error {
	r := &d.request
	return d.members(&r.top.fault, "must be an object", func(name []byte) error {
		if string(name) != "evaluations_semantic" {
			return d.json.SkipValue()
		}
		if err := d.text(&r.top.fault, &r.semantic); err != nil {
			return err
		}
		switch r.semantic {
		case executeAll, denyOnFirstDeny, permitOnFirstPermit:
		default:
			d.note(&r.top.fault, "must be execute_all, deny_on_first_deny or permit_on_first_permit")
		}
		return nil
	})
}
