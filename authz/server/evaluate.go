package server

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const applicationJSON = "application/json"

// contentType is shared by all answers: nobody writes to it.
var contentType = []string{applicationJSON}

// checkContent refuses a body that is not said to be JSON (AuthZEN, HTTPS JSON
// Binding); usher has a 400 for it.
func checkContent(h http.Header) error {
	if err := checkEncoding(h); err != nil {
		return err
	}
	values := h["Content-Type"]
	if len(values) == 1 {
		if values[0] == applicationJSON {
			return nil
		}
		if kind, _, err := mime.ParseMediaType(values[0]); err == nil && kind == applicationJSON {
			return nil
		}
	}
	return &policies.MalformedError{Where: "Content-Type", Reason: "the content type must be application/json"}
}

// checkEncoding refuses a body that is compressed.
func checkEncoding(h http.Header) error {
	if encoding, ok := h["Content-Encoding"]; ok && (len(encoding) != 1 || !strings.EqualFold(encoding[0], "identity")) {
		return &policies.MalformedError{Where: "Content-Encoding", Reason: "the body must not be encoded"}
	}
	return nil
}

// read reads and decodes the body of r.
func (d *decoder) read(w http.ResponseWriter, r *http.Request, asBatch bool) error {
	if err := d.load(w, r); err != nil {
		return err
	}
	return d.decode(asBatch)
}

// load reads the body of r.
func (d *decoder) load(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > policies.MaxBodyBytes {
		return &tooLargeError{"the body has too many bytes", policies.MaxBodyBytes}
	}
	if _, err := d.body.ReadFrom(http.MaxBytesReader(w, r.Body, policies.MaxBodyBytes)); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &tooLargeError{"the body has too many bytes", policies.MaxBodyBytes}
		}
		// The connection broke or was too slow, or the chunks are not what they say.
		return &policies.MalformedError{Reason: "the body could not be read to its end"}
	}
	return nil
}

// withDecoder lends answer a decoder that nobody else has.
func (a *API) withDecoder(answer func(*decoder) error) error {
	d, ok := a.decoders.Get().(*decoder)
	if !ok {
		return errors.New("the pool of decoders holds something else")
	}
	// Not by defer: after a panic d may hold anything, and is left to the collector.
	err := answer(d)
	if d.keep() {
		a.decoders.Put(d)
	}
	return err
}

// evaluation answers POST /access/v1/evaluation.
func (a *API) evaluation(w http.ResponseWriter, r *http.Request) error {
	return a.withDecoder(func(d *decoder) error {
		if err := d.read(w, r, false); err != nil {
			return err
		}
		return a.single(w, r, d)
	})
}

// evaluations answers POST /access/v1/evaluations.
func (a *API) evaluations(w http.ResponseWriter, r *http.Request) error {
	return a.withDecoder(func(d *decoder) error {
		if err := d.read(w, r, true); err != nil {
			return err
		}
		if !d.request.batch {
			return a.single(w, r, d)
		}
		return a.batch(w, r, d)
	})
}

func (a *API) single(w http.ResponseWriter, r *http.Request, d *decoder) error {
	least, err := DemandedBy(r.Header)
	if err != nil {
		return err
	}
	top := &d.request.top
	decision, err := a.decider.Check(r.Context(), max(least, top.context.min), top.question(r))
	if err != nil {
		return err
	}
	a.metrics.decided(&decision)
	d.answer = AppendDecision(d.answer, &decision)
	return d.write(w)
}

// batch answers all items at one revision, which is at least the greatest that any
// of header, batch and items asks for.
func (a *API) batch(w http.ResponseWriter, r *http.Request, d *decoder) error {
	least, err := DemandedBy(r.Header)
	if err != nil {
		return err
	}
	least = max(least, d.request.top.context.min)
	for i := range d.request.items {
		item := &d.request.items[i]
		least = max(least, item.context.min)
		if item.fault == nil {
			d.questions = append(d.questions, item.question(r))
		}
	}
	decisions, err := a.decide(r.Context(), least, d.questions)
	if err != nil {
		return err
	}
	d.answer = append(d.answer, `{"evaluations":[`...)
	answered := 0
	for i := range d.request.items {
		decision := authz.Decision{Reason: policies.ReasonInvalidRequest, Revision: decisions[0].Revision}
		if d.request.items[i].fault == nil {
			decision = decisions[answered]
			answered++
		}
		if i > 0 {
			d.answer = append(d.answer, ',')
		}
		d.answer = AppendDecision(d.answer, &decision)
		a.metrics.decided(&decision)
		if d.request.endsWith(decision.Allow) {
			break
		}
	}
	a.metrics.items.Observe(float64(len(d.request.items)))
	d.answer = append(d.answer, "]}"...)
	return d.write(w)
}

// decide asks the decider, and makes sure that there is one answer at least, which
// names the revision: of a batch of faulty items too.
func (a *API) decide(ctx context.Context, least policies.Revision, questions []authz.Question) ([]authz.Decision, error) {
	if len(questions) == 0 {
		// Nobody is the subject of this question: nothing is looked up for it.
		decision, err := a.decider.Check(ctx, least, authz.Question{})
		return []authz.Decision{decision}, err
	}
	decisions, err := a.decider.Decide(ctx, least, questions)
	if err == nil && len(decisions) != len(questions) {
		err = fmt.Errorf("%d questions got %d answers", len(questions), len(decisions))
	}
	return decisions, err
}

// endsWith tells whether the batch ends with a decision such as this.
func (r *request) endsWith(allow bool) bool {
	return r.semantic == denyOnFirstDeny && !allow || r.semantic == permitOnFirstPermit && allow
}

// write sends the answer. That the caller has gone is nobody's error.
func (d *decoder) write(w http.ResponseWriter) error {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(d.answer))}
	_, _ = w.Write(d.answer)
	return nil
}
