package rest

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

const (
	metaOperation = "usher.operation"
	schemeToken   = "serviceToken"
	schemeAccount = "account"
	mediaJSON     = "application/json"
	mediaProblem  = "application/problem+json"
)

// openAPI is the frame of the document.
func openAPI(o Options) *huma.OpenAPI {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	aliases(registry)
	text := func(example string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Examples: []any{example}}
	}
	parameter := func(name, description string, schema *huma.Schema) *huma.Param {
		return &huma.Param{Name: name, In: "header", Description: description, Schema: schema}
	}
	whole := func(most float64) *huma.Schema {
		least := 0.0
		return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least, Maximum: &most}
	}
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "usher", Version: o.Version,
			Description: "Who shared what with whom, and who may do what: accounts, environments, roles, members and their grants. " +
				"Errors are problem documents (RFC 9457) with a stable `type`. Lists are pages: follow `next_cursor`. " +
				"A write answers with `Usher-Revision`; a read or a check that names it as its least revision sees the write.",
		},
		Components: &huma.Components{
			Schemas:         registry,
			SecuritySchemes: securitySchemes(o),
			Parameters: map[string]*huma.Param{
				"ActAs": parameter(headerActAs, "The account that the service acts as; needs the scope act-as. "+
					"Both must allow: the scope and the account's right. Refused with a JWT.", text("mia")),
				"MinRevision": parameter(headerMinRevision, "The answer is from this revision or a later one; 503 if it does not arrive in time.",
					whole(float64(policies.MaxRevision))),
				"DryRun": {
					Name: parameterDryRun, In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"true", "false"}},
					Description: "All but the write: the same right, the same errors, and the answer 200 with its impact.",
				},
				"IfMatch": parameter("If-Match", "The etag that the object must still have, or *; else 412.", text(`"r123"`)),
				"IdempotencyKey": parameter(headerIdempotency, "A repetition with the same key answers as the first time; "+
					"another request with the same key is a 422.", text("7c1f2f0e-3d1e-4a53-9c52-6f1c1a0f6f57")),
			},
			Headers: map[string]*huma.Header{
				"Revision": {
					Description: "The revision at which the write took effect; the present one if nothing was changed, on a 409 and on a 412.",
					Schema:      whole(float64(policies.MaxRevision)),
				},
				"RequestID": {Description: "The request's id: the caller's, or a new one.", Schema: text("4CQ3WZJ2UDJ7PM2HKTCL5QHSKN")},
			},
		},
	}
}

// securitySchemes are the two ways to say who calls; the account's only where there
// is a provider to sign in with.
func securitySchemes(o Options) map[string]*huma.SecurityScheme {
	schemes := map[string]*huma.SecurityScheme{schemeToken: {
		Type: "http", Scheme: "bearer", BearerFormat: "ush_…",
		Description: "A service token. The scopes that an operation needs stand in its security requirement and in x-usher-scope.",
	}}
	if o.Identities != nil {
		schemes[schemeAccount] = &huma.SecurityScheme{
			Type: "openIdConnect", OpenIDConnectURL: strings.TrimSuffix(o.Identities.Issuer(), "/") + "/.well-known/openid-configuration",
			Description: "An account that signed in: a JWT of the platform's OpenID provider as bearer token. Who may call an operation stands in x-usher-who.",
		}
	}
	return schemes
}

// security are the alternatives of an operation (OpenAPI 3.1, Security Requirement).
func (a *API) security(op *operation) []map[string][]string {
	scopes := []string{string(op.scope)}
	if op.who == whoMember {
		scopes = append(scopes, string(policies.ScopeActAs))
	}
	all := []map[string][]string{{schemeToken: scopes}}
	if a.identities != nil && op.who.accounts() {
		all = append(all, map[string][]string{schemeAccount: {}})
	}
	if op.who == whoLink {
		all = append(all, map[string][]string{}) // nothing is needed
	}
	return all
}

// DocumentOperation adds what huma does not know of an operation: its body,
// common headers, errors, scope and right. huma.Register calls it.
func (a *API) DocumentOperation(o *huma.Operation) {
	op, ok := o.Metadata[metaOperation].(*operation)
	if !ok {
		return
	}
	o.Security = a.security(op)
	o.Extensions = map[string]any{
		"x-usher-scope": string(op.scope),
		"x-usher-who":   map[string]string{"may": string(op.who), "text": op.text()},
	}
	if len(op.stream) > 0 {
		a.documentImport(o)
	} else {
		a.documentBody(o, op)
	}
	common := func(names ...string) {
		for _, name := range names {
			o.Parameters = append(o.Parameters, &huma.Param{Ref: "#/components/parameters/" + name})
		}
	}
	if op.who != whoAlone {
		common("ActAs")
	}
	if op.writes() {
		if !op.noMatch {
			common("IfMatch")
		}
		if op.method == http.MethodPost {
			common("IdempotencyKey")
		}
		if op.dryRun {
			a.documentDryRun(o)
		}
	} else {
		common("MinRevision")
	}
	a.documentAnswers(o, op)
	a.OpenAPI().AddOperation(o)
}

func (a *API) documentBody(o *huma.Operation, op *operation) {
	if op.body == nil {
		return
	}
	schema := a.OpenAPI().Components.Schemas.Schema(op.body, true, o.OperationID+"Body")
	o.RequestBody = &huma.RequestBody{
		Required: !op.optional, Content: map[string]*huma.MediaType{mediaJSON: {Schema: schema}},
	}
}

func (a *API) documentAnswers(o *huma.Operation, op *operation) {
	delete(o.Responses, "default") // huma's, for errors that it knows nothing of
	usual := strconv.Itoa(o.DefaultStatus)
	for _, media := range op.media {
		if o.Responses[usual].Content == nil {
			o.Responses[usual].Content = map[string]*huma.MediaType{}
		}
		o.Responses[usual].Content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	for _, status := range op.also {
		answer := *o.Responses[usual]
		answer.Description = http.StatusText(status)
		o.Responses[strconv.Itoa(status)] = &answer
	}
	statuses := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	if op.who == whoOwner || op.who == whoMembers || len(pathParameters(op.path)) > 0 {
		statuses = append(statuses, http.StatusNotFound)
	}
	if op.writes() && !op.noMatch {
		statuses = append(statuses, http.StatusPreconditionFailed)
	}
	if op.body != nil || len(op.stream) > 0 {
		statuses = append(statuses, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	}
	if op.method == http.MethodPost { // a key that was used for another request
		statuses = append(statuses, http.StatusUnprocessableEntity)
	}
	statuses = append(statuses, op.errors...)
	schema := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	for _, status := range statuses {
		o.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: problemTypes(status),
			Content:     map[string]*huma.MediaType{mediaProblem: {Schema: schema}},
		}
	}
	for status, answer := range o.Responses {
		if answer.Headers == nil {
			answer.Headers = map[string]*huma.Param{}
		}
		answer.Headers[headerRequestID] = &huma.Header{Ref: "#/components/headers/RequestID"}
		if op.writes() && (status == "409" || status == "412" || status[0] == '2') {
			answer.Headers[headerRevision] = &huma.Header{Ref: "#/components/headers/Revision"}
		}
	}
}

// problemTypes describes an error status by the types of problem that have it.
func problemTypes(status int) string {
	all := []string{http.StatusText(status)}
	for _, k := range Problems {
		if k.Status == status && k.Type != problem.OtherPlatform { // the feed's
			all = append(all, string(k.Type))
		}
	}
	return strings.Join(all, "; ")
}

// finish encodes the document.
func (a *API) finish() ([]byte, error) {
	schemas := a.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own, with which nothing here answers
	delete(schemas, "ErrorDetail")
	for _, s := range schemas {
		nothingIsNull(s)
	}
	data, err := a.OpenAPI().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("make the OpenAPI document: %w", err)
	}
	value := jsontext.Value(data)
	if err := value.Canonicalize(jsontext.WithIndent("  ")); err != nil {
		return nil, fmt.Errorf("format the OpenAPI document: %w", err)
	}
	return value, nil
}

// nothingIsNull takes null from all that may not be null here: it stands for a
// group at the root, for no account and for no end only (see refuseNull).
func nothingIsNull(s *huma.Schema) {
	if s == nil {
		return
	}
	if s.Format != "date-time" && s.Pattern != idPattern {
		s.Nullable = false // huma takes every pointer and slice for one that may be null
	}
	nothingIsNull(s.Items)
	for _, either := range s.AnyOf {
		nothingIsNull(either)
	}
	for _, property := range s.Properties {
		nothingIsNull(property)
	}
}

func (a *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.document)
}

// Operations lists method, path, scope and right of every operation, in the
// order of paths: for tests that walk all of them.
func (a *API) Operations() []Operation {
	var all []Operation
	for path, item := range a.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if o == nil {
				continue
			}
			if op, ok := o.Metadata[metaOperation].(*operation); ok {
				all = append(all, Operation{ID: op.id, Method: op.method, Path: path, Scope: op.scope, Who: string(op.who)})
			}
		}
	}
	slices.SortFunc(all, func(x, y Operation) int {
		if x.Path != y.Path {
			if x.Path < y.Path {
				return -1
			}
			return 1
		}
		if x.Method < y.Method {
			return -1
		}
		return 1
	})
	return all
}

// Operation is one operation as the OpenAPI document has it.
type Operation struct {
	ID, Method, Path string
	Scope            policies.Scope
	Who              string
}

// enum is a schema of a closed set.
func enum[T ~string](values []T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}
