// Package routes maps the requests that a proxy asks about to checks: from method,
// path, headers and verified claims to subject, action and resource. Every door for
// proxies has the same mapping.
//
//	subject: "{header:X-Account}"
//	routes:
//	  - methods: [POST]
//	    path: /environments/{environment}/start
//	    action: environment.control.StartEnv
//	    resource: {type: environment, id: "{environment}"}
//	  - methods: [GET]
//	    path: /assets/{rest...}
//	    public: true
//
// The first route that matches counts; what matches none is denied. In subject,
// action and the id of the resource, {NAME} is a part of the path, {header:NAME} a
// header and {claim:NAME} a claim of a token that the proxy verified; where one of them
// is absent, the request is denied.
//
// # Context
//
// Guardrails read the check's context. In it are method and path (without the query,
// and with escapes resolved), address where the door knows where the request came from
// (Envoy's says), and what the mapping names, for one route or for all:
//
//	context:
//	  ticket: "{header:X-Ticket}"
//	  team: "{claim:team}"
//
// Of these, what is absent in a request, or stands there twice, is absent in the context.
//
// # Paths
//
// A proxy, usher and the service behind must read a path in one way. So a path that
// they could read in two is denied: with a dot segment or an empty one, with an escaped
// slash, backslash or percent sign, with a backslash, a semicolon or a control
// character, or with an escape that is none. Letters are compared as they are. The query
// plays no part.
package routes
