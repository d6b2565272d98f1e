package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// spec declares one operation: what huma and the OpenAPI document need, and who
// may call it.
type spec struct {
	id, method, path string
	tag              string
	summary          string
	description      string
	scope            policies.Scope
	who              who
	right            string // what a member needs; with whoMembers
	status           int    // of the usual answer; 0 is 200
	also             []int  // other statuses of success, such as 201
	errors           []int  // statuses beside those that every operation of its kind has
	limit            int64  // of the body in bytes; 0 is policies.MaxBodyBytes
	noMatch          bool   // takes no If-Match
	optional         bool   // the body may be absent
	dryRun           bool   // may be only tried
	strangers        bool   // also for accounts that usher does not know: an invitation may make them known
	// stream lists the content types of a body that the handler reads itself.
	stream []string
	// media lists the content types of a usual answer that the handler writes itself,
	// beside JSON where the answer has a body of that too.
	media []string
	// read says that a service which calls it is written down, see [ReadLog].
	read bool
}

// who may call an operation, beyond the scope of the token (domain.md, Who may
// change what).
type who string

const (
	whoOwner    who = "owner"    // services, and the account in the path
	whoMembers  who = "members"  // as whoOwner, and members with the right: the store or the handler decides
	whoServices who = "services" // services only, not acting as anyone: 403
	whoAlone    who = "alone"    // services only; Usher-Act-As is a fault of the request: 400
	whoMember   who = "member"   // an account about itself: signed in, or by Usher-Act-As
	whoAnyone   who = "anyone"   // services and every account
	whoLink     who = "link"     // the holder of a link, without credentials; an account too
)

// text says it for people.
func (s *spec) text() string {
	switch s.who {
	case whoOwner:
		return "A service, or the owner."
	case whoMembers:
		text := "A service, the owner, or a member: " + s.right
		if s.method != http.MethodGet {
			text += " A member never gives, takes away or changes for others more than it holds itself."
		}
		return text
	case whoServices:
		return "A service, not acting as anyone."
	case whoAlone:
		return "A service; Usher-Act-As is refused."
	case whoMember:
		return "The account itself, or a service that acts as it."
	case whoAnyone:
		return "A service, or any account."
	case whoLink:
		return "Whoever holds the link, without credentials; an account, as itself."
	}
	return ""
}

// accounts tells whether accounts may call at all, as themselves.
func (w who) accounts() bool { return w != whoServices && w != whoAlone }

// none is the body, or the parameters, of an operation that takes none.
type none struct{}

// request is what the pieces around a handler know of the request.
type request struct {
	*http.Request

	w      http.ResponseWriter
	caller caller
	op     *operation
	dryRun bool
	// What a dry run came to: what it would have changed, if anything, and the present
	// revision.
	trial *store.Trial
	tried policies.Revision
}

type requestKey struct{}

// operation is a registered spec with what its types say.
type operation struct {
	spec

	query map[string]bool
	body  reflect.Type // nil without one
}

func (o *operation) writes() bool { return o.method != http.MethodGet }

// register adds an operation with parameters P, body B and answer O.
func register[P, B, O any](a *API, s spec, handle func(ctx context.Context, r *request, p *P, body *B) (*O, error)) {
	op := &operation{spec: s, query: map[string]bool{}}
	queryOf(reflect.TypeFor[P](), op.query)
	if t := reflect.TypeFor[B](); t != reflect.TypeFor[none]() {
		op.body = t
	}
	huma.Register(a, huma.Operation{
		OperationID: s.id, Method: s.method, Path: "/v1" + s.path, Tags: []string{s.tag},
		Summary: s.summary, Description: s.description, DefaultStatus: s.status,
		SkipValidateParams: true, SkipValidateBody: true,
		Metadata:  map[string]any{metaOperation: op},
		Responses: map[string]*huma.Response{},
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
			r, w := humago.Unwrap(ctx)
			next(huma.WithValue(ctx, requestKey{}, &request{Request: r, w: w, op: op}))
		}},
	}, func(ctx context.Context, p *P) (*O, error) {
		r, ok := ctx.Value(requestKey{}).(*request)
		if !ok {
			return nil, a.problem(ctx, nil, errors.New("no request in the context"))
		}
		body := new(B)
		if err := a.prepare(ctx, r, body); err != nil {
			return nil, a.problem(ctx, r, err)
		}
		out, err := handle(ctx, r, p, body)
		if err == nil && r.dryRun {
			err = a.tryOut(ctx, r)
		}
		var answer *tried
		if errors.As(err, &answer) {
			return nil, answer
		}
		if err != nil {
			return nil, a.problem(ctx, r, err)
		}
		a.noteRead(r)
		return out, nil
	})
}

// queryOf collects the query parameters that t declares.
func queryOf(t reflect.Type, into map[string]bool) {
	for f := range t.Fields() {
		if f.Anonymous {
			queryOf(f.Type, into)
		}
		if name := f.Tag.Get("query"); name != "" {
			into[name] = true
		}
	}
}

// prepare finds out who calls, whether they may, and reads the body.
func (a *API) prepare(ctx context.Context, r *request, body any) error {
	var err error
	if r.caller, err = a.authenticate(ctx, r); err != nil {
		return err
	}
	if err := checkParameters(r); err != nil {
		return err
	}
	if r.op.dryRun {
		if r.dryRun, err = dryRun(r); err != nil {
			return err
		}
		r.caller.dryRun = r.dryRun
	}
	if !r.op.writes() {
		if err := a.demandRevision(ctx, r); err != nil {
			return err
		}
	}
	if err := a.authorize(ctx, r); err != nil {
		return err
	}
	if len(r.op.stream) > 0 {
		return checkMediaType(r.Request, r.op.stream...)
	}
	if r.op.body == nil {
		return refuseBody(r)
	}
	limit := r.op.limit
	if limit == 0 {
		limit = policies.MaxBodyBytes
	}
	if r.op.optional && r.ContentLength == 0 {
		return nil
	}
	data, err := readBody(r.w, r.Request, limit)
	if err != nil {
		return err
	}
	if err := decode(data, body); err != nil {
		return err
	}
	// A repetition may write the same body in another order.
	canonical := jsontext.Value(data)
	if err := canonical.Canonicalize(); err != nil {
		return policies.Malformed(data, err)
	}
	r.caller.hash(canonical)
	return check(body)
}

// refuseBody lets an operation without a body have none, or an empty object.
func refuseBody(r *request) error {
	data, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, policies.MaxBodyBytes))
	if err != nil {
		return bodyError(err)
	}
	if data = bytes.TrimSpace(data); len(data) > 0 && string(data) != "{}" {
		return &policies.MalformedError{Reason: "this operation takes no body"}
	}
	return nil
}

// checkParameters refuses unknown and repeated query parameters, text that no
// parameter may have, and ids that nothing can have.
func checkParameters(r *request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &policies.MalformedError{Where: "query", Reason: "cannot be parsed"}
	}
	for name, values := range query {
		switch {
		case !r.op.query[name] && (name != parameterDryRun || !r.op.dryRun):
			return &policies.MalformedError{Where: strconv.Quote(name), Reason: "is no query parameter of this operation"}
		case len(values) > 1:
			return &policies.MalformedError{Where: name, Reason: "stands twice in the query"}
		case !plainText(values[0]):
			return &policies.MalformedError{Where: name, Reason: "has characters that are not text"}
		}
	}
	for _, name := range pathParameters(r.op.path) {
		id := r.PathValue(name)
		if name == "token" {
			continue // a link that cannot be is answered as one that is not
		}
		if name == "type" {
			if policies.ResourceType(id).Valid() {
				continue
			}
			if r.op.method == http.MethodPut {
				return invalid("type", "is none of the five types of resource")
			}
			return &policies.NotFoundError{Kind: "resource type", ID: printable(id)}
		}
		if policies.ValidID(id) {
			continue
		}
		if r.op.method == http.MethodPut {
			return invalid(name, badID)
		}
		return &policies.NotFoundError{Kind: name, ID: printable(id)}
	}
	return nil
}

func invalid(field, reason string) error {
	return &policies.InvalidError{Errors: []policies.FieldError{{Field: field, Reason: reason}}}
}

func pathParameters(path string) []string {
	var names []string
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, "{") {
			names = append(names, strings.Trim(part, "{}"))
		}
	}
	return names
}

// plainText tells whether s is UTF-8 without control characters.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// printable is s as an error may quote it.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) > policies.MaxIDLength {
		s = strings.ToValidUTF8(s[:policies.MaxIDLength], "") + "…"
	}
	return s
}

// validator is a body with rules beyond its types.
type validator interface {
	validate() []policies.FieldError
}

// check reports everything that is wrong in a well-formed body at once: fields
// that must be given and are not (nil pointers without omitzero in their tags, in
// lists too), and what the domain's validation says.
func check(body any) error {
	var all []policies.FieldError
	collectMissing(reflect.ValueOf(body).Elem(), "", &all)
	seen := map[string]bool{}
	for _, e := range all {
		seen[e.Field] = true
	}
	if v, ok := body.(validator); ok {
		for _, e := range v.validate() {
			if !seen[e.Field] {
				all = append(all, e)
			}
		}
	}
	if len(all) > 0 {
		return &policies.InvalidError{Errors: all}
	}
	return nil
}

func collectMissing(v reflect.Value, path string, missing *[]policies.FieldError) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			collectMissing(v.Index(i), path+"["+strconv.Itoa(i)+"]", missing)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			collectMissing(v.Elem(), path, missing)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			if path != "" {
				name = path + "." + name
			}
			if f.Type.Kind() == reflect.Pointer && v.Field(i).IsNil() && !strings.Contains(options, "omitzero") {
				*missing = append(*missing, policies.FieldError{Field: name, Reason: "is required"})
				continue
			}
			collectMissing(v.Field(i), name, missing)
		}
	default:
	}
}
