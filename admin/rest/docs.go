package rest

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS string

// docs is the page that shows the OpenAPI document: rendered once, without
// scripts and without anything from elsewhere.
type docs struct {
	page   []byte
	policy string
}

type (
	docsPage struct {
		Title, Version, Description string
		Style                       template.CSS
		Tags                        []docsTag
		Problems                    []ProblemKind
		Schemas                     []docsSchema
	}
	docsTag struct {
		ID, Name   string
		Operations []docsOperation
	}
	docsOperation struct {
		ID, Method, Path, Summary, Description, Scope, Who string
		Parameters                                         []docsField
		Bodies                                             []docsBody
		Answers                                            []docsAnswer
	}
	docsAnswer struct {
		Status, Description string
		Bodies              []docsBody
	}
	docsBody struct {
		Media string
		Type  docsType
	}
	docsSchema struct {
		ID, Name string
		Fields   []docsField
	}
	docsField struct {
		Name, In, Description string
		Required              bool
		Type                  docsType
	}
	docsType struct {
		Ref, RefID, Text, Note string
		Nullable               bool
		Items                  *docsType
		Any                    []docsType
	}
)

// newDocs renders the page of o, whose operations tags orders.
func newDocs(o *huma.OpenAPI) (*docs, error) {
	page := docsPage{
		Title: o.Info.Title, Version: o.Info.Version, Description: o.Info.Description,
		Style:    template.CSS(docsCSS), //nolint:gosec // the embedded style sheet
		Problems: Problems,
	}
	tags := map[string]*docsTag{}
	var order []string
	for _, path := range sortedKeys(o.Paths) {
		item := o.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			name := op.Tags[0]
			if tags[name] == nil {
				tags[name] = &docsTag{ID: "tag-" + strings.ReplaceAll(strings.ToLower(name), " ", "-"), Name: name}
				order = append(order, name)
			}
			tags[name].Operations = append(tags[name].Operations, docsOperationOf(o, op))
		}
	}
	slices.Sort(order)
	for _, name := range order {
		page.Tags = append(page.Tags, *tags[name])
	}
	schemas := o.Components.Schemas.Map()
	for _, name := range sortedKeys(schemas) {
		page.Schemas = append(page.Schemas, docsSchemaOf(name, schemas[name]))
	}
	t, err := template.New("docs").Parse(docsHTML)
	if err != nil {
		return nil, fmt.Errorf("parse the page of the documentation: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("render the page of the documentation: %w", err)
	}
	style := sha256.Sum256([]byte(docsCSS))
	return &docs{page: out.Bytes(), policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}, nil
}

// ServeHTTP shows the page.
func (d *docs) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", d.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(d.page)
}

func docsOperationOf(o *huma.OpenAPI, op *huma.Operation) docsOperation {
	out := docsOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description,
	}
	if ours, ok := op.Metadata[metaOperation].(*operation); ok {
		out.Scope, out.Who = string(ours.scope), ours.text()
	}
	for _, p := range op.Parameters {
		if p.Ref != "" {
			p = o.Components.Parameters[p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]]
		}
		out.Parameters = append(out.Parameters, docsField{
			Name: p.Name, In: p.In, Description: p.Description, Required: p.Required, Type: docsTypeOf(p.Schema),
		})
	}
	if op.RequestBody != nil {
		out.Bodies = docsBodies(op.RequestBody.Content)
	}
	for _, status := range sortedKeys(op.Responses) {
		answer := op.Responses[status]
		out.Answers = append(out.Answers, docsAnswer{Status: status, Description: answer.Description, Bodies: docsBodies(answer.Content)})
	}
	return out
}

func docsBodies(content map[string]*huma.MediaType) []docsBody {
	var out []docsBody
	for _, media := range sortedKeys(content) {
		out = append(out, docsBody{Media: media, Type: docsTypeOf(content[media].Schema)})
	}
	return out
}

func docsSchemaOf(name string, s *huma.Schema) docsSchema {
	out := docsSchema{ID: "schema-" + name, Name: name}
	for _, field := range sortedKeys(s.Properties) {
		property := s.Properties[field]
		out.Fields = append(out.Fields, docsField{
			Name: field, Description: property.Description, Required: slices.Contains(s.Required, field), Type: docsTypeOf(property),
		})
	}
	return out
}

func docsTypeOf(s *huma.Schema) docsType {
	if s == nil {
		return docsType{Text: "anything"}
	}
	out := docsType{Text: s.Type, Nullable: s.Nullable}
	switch {
	case s.Ref != "":
		out.Ref = s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		out.RefID = "schema-" + out.Ref
	case s.Items != nil:
		items := docsTypeOf(s.Items)
		out.Items = &items
	case len(s.OneOf) > 0:
		for _, one := range s.OneOf {
			out.Any = append(out.Any, docsTypeOf(one))
		}
	case s.Type == "":
		out.Text = "anything"
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 {
		note("one of %v", s.Enum)
	}
	if s.Format != "" {
		note("%s", s.Format)
	}
	if s.MaxLength != nil {
		note("at most %d characters", *s.MaxLength)
	}
	if s.Pattern != "" {
		note("like %s", s.Pattern)
	}
	if s.Default != nil {
		note("default %v", s.Default)
	}
	out.Note = strings.Join(notes, "; ")
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
