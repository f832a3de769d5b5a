// What datasette's table.js asks for, which its own template says in an inline script.
var DATASETTE_ALLOW_FACET = true;
