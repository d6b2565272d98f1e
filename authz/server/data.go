package server

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

// PathData is where OPA's Data API is: the two entry points of the decision below
// it, as a stock OPA with the bundle would have them. Every other document is
// undefined here.
const PathData = "/v1/data/"

// The documents of the Data API.
const (
	documentDecision = "usher/authz/decision"
	documentAllow    = "usher/authz/allow"
)

// data answers POST /v1/data/…, and GET with the input as a parameter, in the form of
// OPA's Data API.
func (a *API) data(w http.ResponseWriter, r *http.Request) error {
	begun := time.Now()
	return a.withDecoder(func(d *decoder) error {
		if err := d.loadInput(w, r); err != nil {
			return err
		}
		asked, err := d.decodeInput()
		if err != nil {
			return err
		}
		// Not r.URL.EscapedPath: clients escape the slashes of a document's path.
		document, rest := documentOf(strings.TrimPrefix(r.URL.Path, PathData))
		if document == "" {
			d.answer = append(d.answer, "{}"...)
			return d.writeData(w, r)
		}
		id := uuid.NewString()
		decision, err := a.decideInput(r, asked, id)
		if err != nil {
			return err
		}
		a.metrics.decided(&decision)
		d.answer = append(d.answer, `{"decision_id":"`...)
		d.answer = append(d.answer, id...)
		d.answer = append(d.answer, '"')
		if value, ok := valueOf(&decision, document, rest); ok {
			d.answer = append(append(d.answer, `,"result":`...), value...)
		}
		if !asked.given {
			d.answer = append(d.answer, `,"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}`...)
		}
		if flag(r.URL, "metrics") {
			d.answer = append(d.answer, `,"metrics":{"timer_server_handler_ns":`...)
			d.answer = strconv.AppendInt(d.answer, time.Since(begun).Nanoseconds(), 10)
			d.answer = append(d.answer, '}')
		}
		d.answer = append(d.answer, '}')
		return d.writeData(w, r)
	})
}

// documentOf splits path into the document that is served, empty if it is none, and
// what is asked for within it.
func documentOf(path string) (document string, rest []string) {
	path = strings.Trim(path, "/")
	for _, document := range []string{documentDecision, documentAllow} {
		if below, ok := strings.CutPrefix(path+"/", document+"/"); ok {
			return document, strings.FieldsFunc(below, func(r rune) bool { return r == '/' })
		}
	}
	return "", nil
}

// valueOf is what stands at rest within the document; false: it is undefined.
func valueOf(d *authz.Decision, document string, rest []string) ([]byte, bool) {
	if document == documentAllow {
		return strconv.AppendBool(nil, d.Allow), len(rest) == 0
	}
	value := jsontext.Value(AppendDecision(nil, d))
	for _, name := range rest {
		var object map[string]jsontext.Value
		var list []jsontext.Value
		switch value.Kind() {
		case '{':
			if json.Unmarshal(value, &object) != nil || object[name] == nil {
				return nil, false
			}
			value = object[name]
		case '[':
			at, err := strconv.Atoi(name)
			if err != nil || json.Unmarshal(value, &list) != nil || at < 0 || at >= len(list) {
				return nil, false
			}
			value = list[at]
		default:
			return nil, false
		}
	}
	return value, true
}

// input is the AuthZEN request that stands under input. What is no such request is
// denied with invalid_request, as Rego does.
type input struct {
	evaluation

	given bool
}

// loadInput reads the body, or of a GET makes one from the parameter input.
func (d *decoder) loadInput(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return d.load(w, r)
	}
	values := r.URL.Query()["input"]
	if len(values) == 0 {
		return nil
	}
	d.body.WriteString(`{"input":`)
	d.body.WriteString(values[0])
	d.body.WriteString(`}`)
	return nil
}

// decodeInput reads the body of the Data API. No body is no input.
func (d *decoder) decodeInput() (*input, error) {
	asked := &input{}
	if d.body.Len() == 0 {
		asked.check("")
		return asked, nil
	}
	d.begin()
	var fault *policies.MalformedError
	err := d.whole(d.members(&fault, "the body must be a JSON object", func(name []byte) error {
		if string(name) != "input" {
			return d.json.SkipValue()
		}
		asked.given = true
		return d.members(&asked.fault, "must be an object", func(name []byte) error { return d.part(&asked.evaluation, name) })
	}))
	if err != nil {
		return nil, err
	}
	if fault != nil {
		return nil, fault
	}
	asked.check("/input")
	return asked, nil
}

// decideInput answers what was asked, from a revision that is late enough. The
// decision is logged under id.
func (a *API) decideInput(r *http.Request, asked *input, id string) (authz.Decision, error) {
	least, err := DemandedBy(r.Header)
	if err != nil {
		return authz.Decision{}, err
	}
	if asked.fault == nil {
		q := asked.question(r)
		q.Request.DecisionID = id
		return a.decider.Check(r.Context(), max(least, asked.context.min), q)
	}
	// Nobody is the subject of this question: it tells the revision.
	decision, err := a.decider.Check(r.Context(), least, authz.Question{})
	return authz.Decision{Reason: policies.ReasonInvalidRequest, Revision: decision.Revision}, err
}

// flag reads a parameter as OPA does: present means true, unless it says false.
func flag(u *url.URL, name string) bool {
	values, ok := u.Query()[name]
	return ok && (len(values) == 0 || values[0] != "false")
}

// writeData sends the answer, for people if ?pretty asks for it.
func (d *decoder) writeData(w http.ResponseWriter, r *http.Request) error {
	if flag(r.URL, "pretty") {
		value := jsontext.Value(d.answer).Clone()
		if err := value.Indent(jsontext.WithIndent("  ")); err != nil {
			return err
		}
		d.answer = append(d.answer[:0], value...)
		d.answer = append(d.answer, '\n')
	}
	return d.write(w)
}

// dataError is an error in the form of OPA's API.
type dataError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func dataMethods(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, POST")
	writeDataError(w, problem.Problem{Status: http.StatusMethodNotAllowed, Detail: "use POST"})
}

// writeDataError answers with p in that form.
func writeDataError(w http.ResponseWriter, p problem.Problem) {
	code, ok := map[int]string{
		http.StatusBadRequest:            "invalid_parameter",
		http.StatusUnauthorized:          "unauthorized",
		http.StatusForbidden:             "unauthorized",
		http.StatusMethodNotAllowed:      "method_not_allowed",
		http.StatusRequestEntityTooLarge: "invalid_parameter",
		http.StatusServiceUnavailable:    "unavailable",
	}[p.Status]
	if !ok {
		code = "internal_error"
	}
	message := p.Detail
	if p.Where != "" {
		message = p.Where + ": " + message
	}
	if p.TraceID != "" {
		message += ": " + p.TraceID
	}
	p.Head(w.Header())
	writeJSON(w, p.Status, dataError{Code: code, Message: message})
}
