"""Charts as SVG text: frames in, text out. Pure.

Times of axes are those of the viewer's zone, and each chart says so. What is severe has a shape and a text beside its
colour; colours and fonts are classes of `static/charts.css`, so that the page needs no inline style.
"""
