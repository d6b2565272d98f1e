package routes

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Routes is a mapping. It may be used from any number of goroutines.
type Routes struct {
	inForce atomic.Pointer[[]route]
}

// Replace puts the routes of other in force: requests from now on are matched by them.
func (rs *Routes) Replace(other *Routes) { rs.inForce.Store(other.inForce.Load()) }

type route struct {
	methods []string // none: all
	path    []segment
	public  bool
	subject template
	action  template
	kind    string
	id      template
	context map[string]template
}

// segment is one part of a route's path: text, a name for whatever stands there, or a
// name for all the rest.
type segment struct {
	text string
	name string
	rest bool
}

// file is the YAML of a mapping.
type file struct {
	Subject string            `yaml:"subject"`
	Context map[string]string `yaml:"context"`
	Routes  []fileRoute       `yaml:"routes"`
}

type fileRoute struct {
	Methods  []string          `yaml:"methods"`
	Path     string            `yaml:"path"`
	Public   bool              `yaml:"public"`
	Subject  string            `yaml:"subject"`
	Action   string            `yaml:"action"`
	Resource fileResource      `yaml:"resource"`
	Context  map[string]string `yaml:"context"`
}

type fileResource struct {
	Type string `yaml:"type"`
	ID   string `yaml:"id"`
}

// Parse reads a mapping from YAML. The error has everything that is wrong with it, by
// route; but YAML that does not parse, or has an unknown key, hides the rest.
func Parse(data []byte) (*Routes, error) {
	var f file
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	if len(f.Routes) == 0 {
		return nil, errors.New("there are no routes: everything would be denied")
	}
	var all []route
	var errs []error
	seen := map[string]int{}
	for i, from := range f.Routes {
		if from.Subject == "" {
			from.Subject = f.Subject
		}
		if from.Context == nil && !from.Public {
			from.Context = f.Context
		}
		r, problems := from.parse()
		if key := r.key(); seen[key] > 0 {
			problems = append(problems, fmt.Errorf("is never reached: route %d has the same methods and path", seen[key]))
		} else {
			seen[key] = i + 1
		}
		for _, problem := range problems {
			errs = append(errs, fmt.Errorf("route %d (%s): %w", i+1, from.Path, problem))
		}
		all = append(all, r)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	made := &Routes{}
	made.inForce.Store(&all)
	return made, nil
}

// key is equal for routes that match the same requests.
func (r *route) key() string {
	var key strings.Builder
	methods := slices.Sorted(slices.Values(r.methods))
	fmt.Fprint(&key, methods)
	for _, s := range r.path {
		fmt.Fprintf(&key, "/%q %v %v", s.text, s.name != "", s.rest)
	}
	return key.String()
}

func (f *fileRoute) parse() (r route, errs []error) {
	problem := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, method := range f.Methods {
		if method == "" || method != strings.ToUpper(method) || strings.ContainsAny(method, " \t/") {
			problem(fmt.Errorf("the method %q is none; methods are written in capitals", method))
		}
	}
	r.methods, r.public, r.kind = f.Methods, f.Public, f.Resource.Type
	var params []string
	var err error
	r.path, params, err = parsePath(f.Path)
	problem(err)
	if f.Public {
		if f.Action != "" || f.Resource != (fileResource{}) || f.Context != nil {
			problem(errors.New("a public route has no action, no resource and no context: nothing is checked"))
		}
		return r, errs
	}
	named := func(what, text string) template {
		made, err := parseTemplate(text, params)
		if err != nil {
			problem(fmt.Errorf("%s: %w", what, err))
		}
		return made
	}
	r.subject = named("subject", f.Subject)
	r.action = named("action", f.Action)
	r.id = named("resource.id", f.Resource.ID)
	r.context = map[string]template{}
	for _, name := range slices.Sorted(maps.Keys(f.Context)) {
		if !names.MatchString(name) || slices.Contains(ownContext, name) {
			problem(fmt.Errorf("context.%s: the name is none of letters, digits and _, or has a meaning of its own", name))
		}
		r.context[name] = named("context."+name, f.Context[name])
	}
	if !slices.Contains(policies.ResourceTypes, policies.ResourceType(r.kind)) {
		problem(fmt.Errorf("resource.type %q is none of %v", r.kind, policies.ResourceTypes))
	}
	return r, errs
}

// parsePath reads a path template, and gives the names in it.
func parsePath(text string) (path []segment, params []string, err error) {
	literal := strings.NewReplacer("{", "", "}", "").Replace(text)
	literal = strings.ReplaceAll(literal, "...", "rest")
	parts, err := segments(text)
	if err == nil {
		_, err = segments(literal)
	}
	if err != nil || strings.ContainsAny(text, "?%") {
		return nil, nil, fmt.Errorf("the path %q cannot be matched: it must be like /a/{name}/b", text)
	}
	for i, part := range parts {
		name, ok := strings.CutPrefix(part, "{")
		if !ok {
			if strings.ContainsAny(part, "{}") {
				return nil, nil, fmt.Errorf("the path %q has a name within a segment: a name is a whole one", text)
			}
			path = append(path, segment{text: part})
			continue
		}
		name, ok = strings.CutSuffix(name, "}")
		name, rest := strings.CutSuffix(name, "...")
		if !ok || !names.MatchString(name) || slices.Contains(params, name) || rest && i < len(parts)-1 {
			return nil, nil, fmt.Errorf("the path %q: {%s} is no name, or stands twice, or {NAME...} is not last", text, name)
		}
		params = append(params, name)
		path = append(path, segment{name: name, rest: rest})
	}
	return path, params, nil
}

// Request is what a proxy asks about.
type Request struct {
	Method string
	Target string // path and query, as the proxy got them
	// Address is where the original request came from; empty: the proxy does not say.
	Address string
	Header  map[string][]string // by canonical name
	Claims  map[string]any      // of a token that the proxy has verified
}

// Match is what a request comes to.
type Match struct {
	Public   bool // nothing is to be checked
	Question authz.Question
	Context  jsontext.Value // of the question, for guardrails
}

// ownContext are the names in a context that a mapping cannot give.
var ownContext = []string{"method", "path", "explain", "min_revision"}

// DeniedError is a request that no route lets come to a check. Status is 401 where it
// does not say who is asking, else 403. The text is for people.
type DeniedError struct {
	Status int
	Reason string
}

func (e *DeniedError) Error() string { return e.Reason }

// Match finds the route of r. The error is a [DeniedError].
func (rs *Routes) Match(r *Request) (Match, error) {
	parts, err := segments(r.Target)
	if err != nil {
		return Match{}, &DeniedError{http.StatusForbidden, "The path could be read in more than one way: " + err.Error() + "."}
	}
	inForce := *rs.inForce.Load()
	for i := range inForce {
		route := &inForce[i]
		if len(route.methods) > 0 && !slices.Contains(route.methods, r.Method) {
			continue
		}
		if params, ok := route.matches(parts); ok {
			return route.question(r, params, parts)
		}
	}
	return Match{}, &DeniedError{http.StatusForbidden, "No route allows this method on this path."}
}

func (r *route) matches(parts []string) (map[string]string, bool) {
	params := map[string]string{}
	for i, s := range r.path {
		switch {
		case s.rest:
			params[s.name] = strings.Join(parts[min(i, len(parts)):], "/")
			return params, len(parts) > i
		case i >= len(parts), s.name == "" && s.text != parts[i]:
			return nil, false
		case s.name != "":
			params[s.name] = parts[i]
		}
	}
	return params, len(parts) == len(r.path)
}

func (r *route) question(request *Request, params map[string]string, parts []string) (Match, error) {
	if r.public {
		return Match{Public: true}, nil
	}
	subject, err := r.subject.fill(request, params)
	if err != nil {
		return Match{}, &DeniedError{http.StatusUnauthorized, "It is not known who is asking: " + err.Error() + "."}
	}
	action, err := r.action.fill(request, params)
	if err != nil {
		return Match{}, &DeniedError{http.StatusForbidden, "It is not known what is to be done: " + err.Error() + "."}
	}
	id, err := r.id.fill(request, params)
	if err != nil {
		return Match{}, &DeniedError{http.StatusForbidden, "It is not known on what: " + err.Error() + "."}
	}
	context, err := r.contextOf(request, params, parts)
	if err != nil {
		return Match{}, err
	}
	return Match{
		Question: authz.Question{SubjectType: "account", Subject: subject, Action: action, ResourceType: r.kind, ResourceID: id},
		Context:  context,
	}, nil
}

// contextOf is what guardrails read of the request: what it was, and what the mapping
// names. What is absent is left out.
func (r *route) contextOf(request *Request, params map[string]string, parts []string) (jsontext.Value, error) {
	context := map[string]string{"method": request.Method, "path": "/" + strings.Join(parts, "/")}
	if request.Address != "" {
		context["address"] = request.Address
	}
	for name, from := range r.context {
		if value, err := from.fill(request, params); err == nil {
			context[name] = value
		} else {
			delete(context, name)
		}
	}
	text, err := json.Marshal(context, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, fmt.Errorf("put the context together: %w", err)
	}
	return text, nil
}

// Denial says to people why d denies q.
func Denial(q *authz.Question, d *authz.Decision) string {
	why := string(d.Reason)
	if len(d.Guardrail) > 0 {
		why = strings.Join(d.Guardrail, "; ")
	}
	return fmt.Sprintf("%s may not do %s on the %s %s: %s.", q.Subject, q.Action, q.ResourceType, q.ResourceID, why)
}
