(import 'node.libsonnet') +
(import 'resume.libsonnet') +
(import 'fleet.libsonnet') +
(import 'tokens.libsonnet')
