// Grafana's panels, as far as we use them. `layout` numbers and places them.
local datasource = { type: 'prometheus', uid: '${datasource}' };

local letter(index) = std.char(std.codepoint('A') + index);

local panel(type, title, description, unit, targets) = {
  type: type,
  title: title,
  description: description,
  datasource: datasource,
  targets: std.mapWithIndex(function(index, target) target { refId: letter(index) }, targets),
  fieldConfig: { defaults: { unit: unit }, overrides: [] },
  options: {},
};

{
  datasource: datasource,

  range(expr, legend):: { datasource: datasource, expr: expr, legendFormat: legend, range: true },
  instant(expr, legend=''):: { datasource: datasource, expr: expr, legendFormat: legend, instant: true, range: false },
  table(expr):: self.instant(expr) { format: 'table' },

  lines(title, description, unit, targets):: panel('timeseries', title, description, unit, targets) {
    fieldConfig+: { defaults+: { custom: { lineWidth: 1, fillOpacity: 0, showPoints: 'auto', spanNulls: false } } },
    options: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  },

  stat(title, description, unit, targets):: panel('stat', title, description, unit, targets) {
    options: {
      colorMode: 'value',
      graphMode: 'none',
      justifyMode: 'auto',
      orientation: 'auto',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      textMode: 'auto',
    },
  },

  heatmap(title, description, unit, targets):: panel('heatmap', title, description, unit, targets) {
    options: {
      calculate: true,
      calculation: { xBuckets: { mode: 'size' }, yBuckets: { mode: 'count', value: '40' } },
      cellGap: 1,
      color: { mode: 'scheme', scheme: 'Turbo', fill: 'dark-orange', exponent: 0.5, steps: 64, reverse: false },
      filterValues: { le: 1e-9 },
      legend: { show: true },
      rowsFrame: { layout: 'auto' },
      tooltip: { mode: 'single', showColorScale: false, yHistogram: true },
      yAxis: { axisPlacement: 'left', unit: unit, reverse: false },
    },
  },

  // One row for each set of labels; `columns`: what each query's value is called, and its unit.
  rows(title, description, columns, targets):: panel('table', title, description, 'none', targets) {
    fieldConfig+: {
      overrides: [
        { matcher: { id: 'byName', options: column[0] }, properties: [{ id: 'unit', value: column[1] }] }
        for column in columns
      ],
    },
    options: { showHeader: true, cellHeight: 'sm', footer: { show: false } },
    transformations: [
      { id: 'merge', options: {} },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true },
          indexByName: {},
          renameByName: {
            ['Value #' + letter(index)]: columns[index][0]
            for index in std.range(0, std.length(columns) - 1)
          },
        },
      },
    ],
  },

  states(title, description, targets):: panel('state-timeline', title, description, 'none', targets) {
    fieldConfig+: {
      defaults+: {
        custom: { fillOpacity: 80, lineWidth: 0 },
        mappings: [{ type: 'value', options: {
          '0': { text: 'no', color: 'transparent', index: 0 },
          '1': { text: 'yes', color: 'blue', index: 1 },
        } }],
      },
    },
    options: {
      legend: { showLegend: false, displayMode: 'list', placement: 'bottom' },
      mergeValues: true,
      rowHeight: 0.9,
      showValue: 'never',
    },
  },

  // Width, of 24, and height.
  size(width, height):: { gridPos: { w: width, h: height } },

  // Sections of panels, numbered and placed side by side; a line ends where the next panel has no room.
  layout(sections)::
    local place(state, it) =
      local wraps = state.x + it.gridPos.w > 24;
      local x = if wraps then 0 else state.x;
      local y = if wraps then state.y + state.h else state.y;
      {
        x: x + it.gridPos.w,
        y: y,
        h: if wraps then it.gridPos.h else std.max(state.h, it.gridPos.h),
        panels: state.panels + [it { id: std.length(state.panels) + 1, gridPos+: { x: x, y: y } }],
      };
    local section(state, it) =
      local row = { type: 'row', title: it.title, collapsed: false, panels: [] } + self.size(24, 1);
      std.foldl(place, [row] + it.panels, { x: 0, y: state.y + state.h, h: 0, panels: state.panels });
    std.foldl(section, sections, { y: 0, h: 0, panels: [] }).panels,
}
